"""SavedModels are programs; those that touch files are refused."""

from __future__ import annotations

import pytest

from segmodel.errors import ContractError, ExportError
from segmodel.savedmodel.folder import write_contract
from segmodel.savedmodel.predictor import Predictor
from tests.fakes import contract

tf = pytest.importorskip("tensorflow")

from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402

from segmodel.savedmodel.safety import FILE_OPERATIONS, refuse_file_operations  # noqa: E402


def reads(images):
    size = tf.strings.length(tf.io.read_file("/etc/hostname"))
    return tf.cast(images[..., 0], tf.float32) + 0 * tf.cast(size, tf.float32)


def writes(images):
    with tf.control_dependencies([tf.io.write_file("/tmp/beamseg-never-written", "text")]):
        return tf.cast(images[..., 0], tf.float32)


def nested(images):
    return tf.function(tf.function(reads))(images)


def in_a_branch(images):
    dark = tf.reduce_max(images) < 0
    return tf.cond(dark, lambda: reads(images), lambda: tf.cast(images[..., 0], tf.float32))


def in_a_loop(images):
    start = tf.cast(images[..., 0], tf.float32)
    return tf.while_loop(lambda x: tf.reduce_sum(x) < -1, lambda x: (x + reads(images),), (start,))[
        0
    ]


def in_a_map(images):
    return tf.map_fn(lambda one: reads(one[None])[0], images, fn_output_signature=tf.float32)


def in_python(images):
    return tf.py_function(lambda x: tf.cast(x[..., 0], tf.float32), [images], tf.float32)


def records(images):
    count = tf.data.TFRecordDataset("/tmp/none").reduce(0.0, lambda total, _: total + 1.0)
    return tf.cast(images[..., 0], tf.float32) + 0 * count


def save(function, path):
    """A SavedModel of the function by TensorFlow itself, with a contract of ours."""
    module = tf.Module()
    spec = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    signature = tf.function(lambda images: {"labels": function(images)}, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures={"labels": signature})
    write_contract(contract(), path)
    return path


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (reads, "ReadFile"),
        (writes, "WriteFile"),
        (nested, "ReadFile"),
        (in_a_branch, "ReadFile"),
        (in_a_loop, "ReadFile"),
        (in_a_map, "ReadFile"),
        (in_python, "EagerPyFunc"),
        (records, "TFRecordDataset"),
    ],
)
def test_a_model_that_touches_files_is_refused_by_the_operation(tmp_path, function, operation):
    path = save(function, tmp_path / "model")
    with pytest.raises(ExportError, match=f"^model reads or writes .*{operation}.*--trust_model"):
        Predictor.load(path)


def test_a_model_that_touches_files_loads_when_it_is_trusted(tmp_path):
    path = save(reads, tmp_path / "model")
    # It gets as far as its signatures, of which it has but one.
    with pytest.raises(ContractError, match="no signature probabilities, serving_default"):
        Predictor.load(path, trust=True)


def test_ordinary_models_are_not_refused(
    brightness_savedmodel, neighbourhood_savedmodel, foreign_savedmodel
):
    for path in (brightness_savedmodel, neighbourhood_savedmodel, foreign_savedmodel.path):
        refuse_file_operations(path)


def test_a_function_that_no_signature_reaches_is_not_refused(tmp_path):
    module = tf.Module()
    spec = tf.TensorSpec((None,), tf.float32)
    module.helper = tf.function(lambda: tf.io.read_file("/etc/hostname"), input_signature=[])
    signature = tf.function(lambda x: {"y": x}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=signature)
    refuse_file_operations(tmp_path / "model")


def save_with_initializer(folder):
    """A SavedModel with a resource that writes a file when it is initialized."""

    class Resource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

        def _initialize(self):
            tf.io.write_file(str(folder / "written"), "text")

    module = tf.Module()
    module.resource = Resource()
    module.use = tf.function(lambda: module.resource.resource_handle, input_signature=[])
    spec = tf.TensorSpec((None,), tf.float32)
    signature = tf.function(lambda x: {"y": x}, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "model"), signatures={"labels": signature})
    return folder / "model"


def test_an_initializer_that_touches_files_is_refused(tmp_path):
    with pytest.raises(ExportError, match="WriteFile"):
        refuse_file_operations(save_with_initializer(tmp_path))


def test_an_initializer_that_no_signature_names_is_refused_too(tmp_path):
    path = save_with_initializer(tmp_path)
    graph_file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(graph_file.read_bytes())
    del saved.meta_graphs[0].signature_def["__saved_model_init_op"]
    graph_file.write_bytes(saved.SerializeToString())
    (tmp_path / "written").unlink(missing_ok=True)
    with pytest.raises(ExportError, match="WriteFile"):
        refuse_file_operations(path)


def craft(folder, operation: str):
    """A SavedModel of one operation, never loaded."""
    saved = saved_model_pb2.SavedModel()
    graph = saved.meta_graphs.add()
    node = graph.graph_def.node.add(name="culprit", op=operation)
    out = graph.graph_def.node.add(name="out", op="Identity")
    out.input.append(f"^{node.name}")
    graph.signature_def["labels"].outputs["labels"].name = "out:0"
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


@pytest.mark.parametrize("operation", sorted(FILE_OPERATIONS))
def test_each_listed_operation_is_found_behind_a_control_edge(tmp_path, operation):
    with pytest.raises(ExportError, match=rf"\({operation}\)"):
        refuse_file_operations(craft(tmp_path, operation))


@pytest.mark.parametrize("operation", ["Conv2D", "NoOp", "MaxPool", "ResizeBilinear"])
def test_other_operations_are_not_refused(tmp_path, operation):
    refuse_file_operations(craft(tmp_path, operation))


NOT_LISTED = (
    "CSVDataset",
    "CSVDatasetV2",
    "CacheDataset",
    "CacheDatasetV2",
    "CreateSummaryDbWriter",
    "CreateSummaryFileWriter",
    "DatasetToTFRecord",
    "DebugIdentityV3",
    "DebugNanCount",
    "DebugNumericSummary",
    "DistributedSave",
    "ExperimentalCSVDataset",
    "ExperimentalDatasetToTFRecord",
    "ExperimentalLMDBDataset",
    "ExperimentalMatchingFilesDataset",
    "FixedLengthRecordDataset",
    "FixedLengthRecordReader",
    "GenerateVocabRemapping",
    "ListSnapshotChunksDataset",
    "LoadAndRemapMatrix",
    "MergeV2Checkpoints",
    "RecordInput",
    "Restore",
    "RestoreSlice",
    "RestoreV2",
    "Save",
    "SaveSlices",
    "SaveV2",
    "SnapshotChunkDataset",
    "SnapshotDataset",
    "SnapshotDatasetReader",
    "SnapshotDatasetV2",
    "TFRecordReader",
    "TextLineReader",
    "WholeFileReader",
)


@pytest.mark.parametrize("operation", NOT_LISTED)
def test_each_operation_that_takes_a_path_is_found(tmp_path, operation):
    with pytest.raises(ExportError, match=operation):
        refuse_file_operations(craft(tmp_path, operation))
