"""Values of options that cannot be, and words that no command knows."""

from __future__ import annotations

from tools.reliability.situations.changes import put
from tools.reliability.situations.table import (
    ENSEMBLE,
    GIVEN,
    INCOMPLETE,
    PACK,
    PHOTOS,
    SCENES,
    TRAIN,
    WRAP,
    Situation,
)

SITUATIONS = (
    # Words.
    Situation(
        "no command at all",
        "",
        "command",
        "segment, pack,",
    ),
    Situation(
        "a command that is misspelled", "segmnt --input=photos", "segmnt", "did you mean segment?"
    ),
    Situation(
        "a command that nothing resembles",
        "fly",
        "fly",
        "segment, pack,",
    ),
    Situation(
        "an option before the command",
        "--input=photos segment",
        "--input=photos",
        "segment, pack,",
    ),
    Situation(
        "an empty word for a command",
        "''",
        "''",
        "segment, pack,",
    ),
    Situation(
        "a command in capitals",
        "SEGMENT --input=photos",
        "SEGMENT",
        "segment, pack,",
    ),
    Situation(
        "an option that is misspelled", f"{PHOTOS} --windw=512", "--windw", "did you mean --window?"
    ),
    Situation(
        "an option that is shortened",
        f"{PHOTOS} --confid",
        "--confid",
        "did you mean --confidence?",
    ),
    Situation(
        "an option as other tools have it",
        f"{PHOTOS} --tile_size=9",
        "--tile_size",
        "did you mean --window?",
    ),
    Situation(
        "an option with one hyphen", "segment -input=photos", "-input", "did you mean --input?"
    ),
    Situation(
        "an option that nothing resembles",
        f"{PHOTOS} --zzzzzz=1",
        "--zzzzzz",
        "unknown option --zzzzzz: see --help",
    ),
    Situation(
        "an option of another command",
        f"{PHOTOS} --split=train=1",
        "--split",
        "did you mean --limit?",
    ),
    Situation("two hyphens alone", f"{PHOTOS} -- more", "--:", "unknown option --: see --help"),
    Situation(
        "a word that no option takes",
        f"{PHOTOS} photos/a.png photos/b.png",
        "a.png",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "names that a shell has made of a pattern",
        "plan --model=model --input photos/a.png photos/b.png",
        "photos/b.png",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "a dash of a word processor",
        "segment \N{EN DASH}-input=photos",
        "\N{EN DASH}-input",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "an option without its value",
        f"{PHOTOS} --window",
        "--window",
        "expected one argument; see beamseg segment --help",
    ),
    Situation(
        "an option whose value is the next option",
        "segment --input --model=model --output=run",
        "--input",
        "expected one argument; see beamseg segment --help",
    ),
    Situation(
        "spaces around the sign of a value",
        "segment --input = photos",
        "'photos'",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "a flag with a value that is neither true nor false",
        f"{PHOTOS} --confidence=maybe",
        "--confidence",
        "write --confidence, --confidence=true or --confidence=false,",
    ),
    Situation(
        "a flag with a word behind it",
        f"{PHOTOS} --confidence true",
        "true",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "a word with a line feed",
        f"{PHOTOS} $'x'\"\n\"",
        "\\n",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "a word that is not UTF-8",
        f"{PHOTOS} \udcff\udcfe",
        "\\udcff",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "a very long word",
        f"{PHOTOS} --{'x' * 9000}",
        "unknown option",
        "--xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ),
    # Options that are missing, or empty.
    Situation(
        "segment without input",
        f"segment {GIVEN}",
        "--input",
        "is missing, for example --input 'photos/*.jpg'",
    ),
    Situation(
        "segment without model",
        "segment --input=photos --output=run",
        "--model",
        "is missing, for example --model models/earth",
    ),
    Situation(
        "segment without output",
        "segment --input=photos --model=model",
        "--output",
        "is missing, for example --output run",
    ),
    Situation(
        "plan without model",
        "plan --input=photos",
        "--model",
        "is missing, for example --model models/earth",
    ),
    Situation(
        "an empty input",
        f"segment --input= {GIVEN}",
        "--input",
        "check the path, and quote patterns with *",
    ),
    Situation(
        "an input of a space",
        f"segment '--input= ' {GIVEN}",
        "--input",
        "check the path, and quote patterns with *",
    ),
    Situation(
        "an empty model",
        "segment --input=photos --model= --output=run",
        "--model",
        "is missing, for example --model models/earth",
    ),
    Situation(
        "an empty output",
        "segment --input=photos --model=model --output=",
        "--output",
        "is missing, for example --output run",
    ),
    Situation(
        "a list of inputs that is no JSON",
        f"segment '--input=[\"photos\", scenes]' {GIVEN}",
        "--input",
        "begins as a JSON list, and must be one of texts then, such as",
    ),
    Situation(
        "a list of inputs with a number",
        f"segment '--input=[\"photos\", 7]' {GIVEN}",
        "--input",
        "begins as a JSON list, and must be one of texts then, such as",
    ),
    Situation(
        "an empty list of inputs",
        f"segment '--input=[]' {GIVEN}",
        "--input",
        "begins as a JSON list, and must be one of texts then, such as",
    ),
    # Numbers.
    Situation(
        "a window that is no number",
        f"{PHOTOS} --window=wide",
        "--window",
        "must be a whole number, got 'wide'; see beamseg segment --help",
    ),
    Situation(
        "a window with a unit",
        f"{PHOTOS} --window=512px",
        "--window",
        "must be a whole number, got '512px'; see beamseg segment --help",
    ),
    Situation(
        "a window with a fraction",
        f"{PHOTOS} --window=512.5",
        "--window",
        "must be a whole number, got '512.5'; see beamseg segment --help",
    ),
    Situation(
        "a window of nothing", f"{PHOTOS} --window=0", "--window", "must be greater than 0, got 0"
    ),
    Situation(
        "a negative window", f"{PHOTOS} --window=-64", "--window", "must be greater than 0, got -64"
    ),
    Situation(
        "an empty window",
        f"{PHOTOS} --window=",
        "--window",
        "must be a whole number, got ''; see beamseg segment --help",
    ),
    Situation(
        "a window beyond all memory",
        f"{PHOTOS} --window=1000000",
        "--window",
        "give 999451505M (999451708M for scenes), or lower --window,",
    ),
    Situation(
        "a window of more digits than Python reads",
        f"{PHOTOS} --window={'9' * 5000}",
        "--window",
        "must be a whole number, got '",
    ),
    Situation(
        "a window that is no multiple of the stride",
        f"{PHOTOS} --window=65",
        "--window",
        "must be a multiple of the model's stride 32, got 65",
    ),
    Situation(
        "a window in exponents",
        f"{PHOTOS} --window=1e3",
        "--window",
        "must be a whole number, got '1e3'; see beamseg segment --help",
    ),
    Situation("a negative halo", f"{PHOTOS} --halo=-1", "--halo", "must be at least 0, got -1"),
    Situation(
        "a halo beyond the largest raster",
        f"{PHOTOS} --halo=99999999",
        "--halo",
        "give 39978129688387M (39978129688590M for scenes), or lower",
    ),
    Situation(
        "a batch of nothing", f"{PHOTOS} --batch=0", "--batch", "must be greater than 0, got 0"
    ),
    Situation(
        "a batch of a word",
        f"{PHOTOS} --batch=automatic",
        "--batch",
        "must be a number of windows, or auto, got 'automatic'; see",
    ),
    Situation(
        "a batch beyond all memory",
        f"{PHOTOS} --batch=1000000",
        "--batch",
        "give 65500821M (65501024M for scenes), or lower --window,",
    ),
    Situation(
        "memory without number",
        f"{PHOTOS} --memory=G",
        "--memory",
        "must be a size such as 4G or 2500M, got 'G'",
    ),
    Situation(
        "memory in a unit that is none",
        f"{PHOTOS} --memory=4X",
        "--memory",
        "must be a size such as 4G or 2500M, got '4X'",
    ),
    Situation(
        "negative memory",
        f"{PHOTOS} --memory=-4G",
        "--memory",
        "must be a size such as 4G or 2500M, got '-4G'",
    ),
    Situation(
        "memory that is infinite",
        f"{PHOTOS} --memory=inf",
        "--memory",
        "must be a size such as 4G or 2500M, got 'inf'",
    ),
    Situation(
        "memory of one byte",
        f"{PHOTOS} --memory=1",
        "--memory",
        "give 1083M (1286M for scenes), or lower --window, --halo,",
    ),
    Situation(
        "memory for no window",
        f"{PHOTOS} --memory=100M",
        "--memory",
        "give 1083M (1286M for scenes), or lower --window, --halo,",
    ),
    Situation(
        "memory of more digits than a float holds",
        f"{PHOTOS} --memory={'9' * 400}G",
        "--memory",
        "must be a size such as 4G or 2500M, got",
    ),
    Situation(
        "superscript failures",
        f"{PHOTOS} --max_failures=²",
        "--max_failures",
        "must be a whole number, a share such as 0.01 or a percentage",
    ),
    Situation(
        "no pixels", f"{PHOTOS} --max_pixels=0", "--max_pixels", "must be greater than 0, got 0"
    ),
    Situation(
        "pixels beyond the memory",
        f"{PHOTOS} --max_pixels=999999999999",
        "--max_pixels",
        "give 20028223M, or lower --window, --halo, --batch or",
    ),
    Situation(
        "a size of images that is none",
        f"{PHOTOS} --resize=big",
        "--resize",
        "must be one number such as 512, or WIDTHxHEIGHT such as",
    ),
    Situation(
        "a size of images of no width",
        f"{PHOTOS} --resize=0x9",
        "--resize",
        "must be one number such as 512, or WIDTHxHEIGHT such as",
    ),
    Situation(
        "a size of images of three numbers",
        f"{PHOTOS} --resize=64x64x3",
        "--resize",
        "must be one number such as 512, or WIDTHxHEIGHT such as",
    ),
    Situation(
        "a size of images above the limit",
        f"{PHOTOS} --resize=90000",
        "--resize",
        "must be one number such as 512, or WIDTHxHEIGHT such as",
    ),
    Situation(
        "a ground sample distance of nothing",
        f"{SCENES} --resample_to=0",
        "--resample_to",
        "must be greater than 0, got 0.0",
    ),
    Situation(
        "a ground sample distance that is no number",
        f"{SCENES} --resample_to=nan",
        "--resample_to",
        "must be greater than 0, got nan",
    ),
    Situation(
        "an infinite ground sample distance",
        f"{SCENES} --resample_to=inf",
        "--resample_to",
        "must be greater than 0, got inf",
    ),
    Situation(
        "a ground sample distance with a unit",
        f"{SCENES} --resample_to=10m",
        "--resample_to",
        "must be a number, got '10m'; see beamseg segment --help",
    ),
    Situation(
        "a ground sample distance with a comma",
        f"{SCENES} --resample_to=0,5",
        "--resample_to",
        "must be a number, got '0,5'; see beamseg segment --help",
    ),
    Situation(
        "a ground sample distance far below that of scenes",
        f"{SCENES} --resample_to=1e-9",
        "--resample_to",
        "1e-09 is more than 16 times coarser or finer than its pixels of",
    ),
    Situation(
        "a ground sample distance far above that of scenes",
        f"{SCENES} --resample_to=1e9",
        "--resample_to",
        "1e+09 is more than 16 times coarser or finer than its pixels of",
    ),
    Situation(
        "a negative pixel size",
        f"{PHOTOS} --pixel_size=-1",
        "--pixel_size",
        "must be greater than 0, got -1.0",
    ),
    Situation(
        "a pixel size for georeferenced scenes",
        f"{SCENES} --pixel_size=1e400",
        "--pixel_size",
        "must be greater than 0, got inf",
    ),
    Situation(
        "a copy of the web without size",
        f"{PHOTOS} --copy_web=all",
        "--copy_web",
        "must be a size such as 4G or 2500M, got 'all'",
    ),
    Situation(
        "failures below none",
        f"{PHOTOS} --max_failures=-1",
        "--max_failures",
        "must be a whole number, a share such as 0.01 or a percentage",
    ),
    Situation(
        "failures above all",
        f"{PHOTOS} --max_failures=101%",
        "--max_failures",
        "must be a whole number, a share such as 0.01 or a percentage",
    ),
    Situation(
        "failures with a comma",
        f"{PHOTOS} --max_failures=0,01",
        "--max_failures",
        "must be a whole number, a share such as 0.01 or a percentage",
    ),
    Situation(
        "failures as a fraction by zero",
        f"{PHOTOS} --max_failures=1/0",
        "--max_failures",
        "must be a whole number, a share such as 0.01 or a percentage",
    ),
    Situation(
        "failures as a sign of percent alone",
        f"{PHOTOS} --max_failures=%",
        "--max_failures",
        "must be a whole number, a share such as 0.01 or a percentage",
    ),
    Situation(
        "a share out of range above 1",
        f"{PHOTOS} --max_out_of_range=1.5",
        "--max_out_of_range",
        "must be a share such as 0.25 or a percentage such as 25%, got",
    ),
    Situation(
        "a limit of nothing", f"{PHOTOS} --limit=0", "--limit", "must be greater than 0, got 0"
    ),
    Situation(
        "a limit that is no number",
        f"{PHOTOS} --limit=few",
        "--limit",
        "must be a whole number, got 'few'; see beamseg segment --help",
    ),
    Situation(
        "no time for a call",
        f"{PHOTOS} --call_timeout=0",
        "--call_timeout",
        "must be greater than 0, got 0.0",
    ),
    Situation(
        "a time for a call that is no number",
        f"{PHOTOS} --call_timeout=nan",
        "--call_timeout",
        "must be greater than 0, got nan",
    ),
    Situation(
        "a time for a call too short for any",
        f"{PHOTOS} --call_timeout=0.000001",
        "--call_timeout",
        "raise --call_timeout if it needs longer; else leave out what it",
        INCOMPLETE,
    ),
    Situation(
        "infinite seconds to measure",
        f"{ENSEMBLE} --measure_seconds=inf",
        "--measure_seconds",
        "must be greater than 0, got inf",
    ),
    Situation(
        "negative seconds to measure",
        f"{WRAP} --measure_seconds=-5",
        "--measure_seconds",
        "must be greater than 0, got -5.0",
    ),
    Situation(
        "no images in a shard",
        f"{PACK} --images_per_shard=0",
        "--images_per_shard",
        "must be greater than 0, got 0",
    ),
    # Words of a list.
    Situation(
        "a compute type that is none",
        f"{PHOTOS} --compute=float16",
        "--compute",
        "must be one of float32, tf32, bfloat16, got 'float16'",
    ),
    Situation(
        "TF32 without a GPU",
        f"{PHOTOS} --compute=tf32",
        "--compute tf32",
        "only GPUs have it",
        variables={"CUDA_VISIBLE_DEVICES": "-1"},
    ),
    Situation(
        "a rule of overlaps that is none",
        f"{SCENES} --overlap=last",
        "--overlap",
        "must be one of first, newest, got 'last'",
    ),
    Situation(
        "a rule for what is gone that is none",
        f"{PHOTOS} --gone=forget",
        "--gone",
        "must be one of stop, keep, prune, got 'forget'",
    ),
    Situation(
        "a rule that only another command has",
        f"{PACK} --gone=keep",
        "--gone",
        "must be one of stop, prune, got 'keep'",
    ),
    Situation(
        "a format of shards that is none",
        f"{PACK} --format=zip",
        "--format",
        "must be one of tfrecord, tfrecord.gz, tar, tar.gz, parquet, got",
    ),
    Situation(
        "an encoding of masks that is none",
        f"{PACK} --masks=masks --classes=classes.toml --mask_encoding=rgb",
        "--mask_encoding",
        "must be one of color, palette, id, got 'rgb'",
    ),
    Situation(
        "folds by something else",
        f"{TRAIN} --folds_by=color",
        "--folds_by",
        "must be one of group, got 'color'",
    ),
    # Options that need or exclude each other.
    Situation(
        "a field of zones without zones",
        f"{SCENES} --zone_field=name",
        "--zone_field",
        "names a field of --zones: give both",
    ),
    Situation(
        "classes without masks",
        f"{PACK} --classes=classes.toml",
        "--classes",
        "name them with --masks",
    ),
    Situation(
        "masks without classes",
        f"{PACK} --masks=masks",
        "--classes",
        "it says what the values of --masks mean",
    ),
    Situation(
        "more images than masks",
        f"{PACK} --images=scenes --masks=masks --classes=classes.toml",
        "--masks",
        "each --images needs its --masks, in the same order: got 2 and 1",
    ),
    Situation(
        "a resize of scenes alone",
        f"{SCENES} --resize=64",
        "--resize",
        "give --resample_to for scenes with coordinates",
    ),
    Situation(
        "an overlap without scenes",
        f"{PHOTOS} --overlap=first",
        "--overlap",
        "is for scenes, and no --input is a raster with a place on the",
    ),
    Situation(
        "zones without scenes",
        f"{PHOTOS} --zones=zones.geojson",
        "--zones",
        "is for scenes, and no --input is a raster with a place on the",
    ),
    Situation(
        "an area of interest without scenes",
        f"{PHOTOS} --aoi=zones.geojson",
        "--aoi",
        "is for scenes, and no --input is a raster with a place on the",
    ),
    Situation(
        "a reference system without scenes",
        f"{PHOTOS} --crs=EPSG:32633",
        "--crs",
        "is for scenes, and no --input is a raster with a place on the",
    ),
    Situation(
        "bands of image files",
        f"{PHOTOS} --bands=1,2,3",
        "--bands",
        "is for scenes, and no --input is a raster with a place on the",
    ),
    Situation(
        "a ground sample distance without scenes",
        f"{PHOTOS} --resample_to=10",
        "--resample_to",
        "is for scenes, and no --input is a raster with a place on the",
    ),
    Situation(
        "output into the input",
        "segment --input=photos --model=model --output=photos",
        "--output",
        "name an empty folder",
    ),
    Situation(
        "output into the model",
        "segment --input=photos --model=model --output=model",
        "--output",
        "name an empty folder",
    ),
    # Bands and reference systems.
    Situation(
        "an empty band",
        f"{SCENES} --bands=1,,2",
        "--bands",
        "must be different numbers or names with commas between them,",
    ),
    Situation(
        "a band twice",
        f"{SCENES} --bands=1,1,2",
        "--bands",
        "must be different numbers or names with commas between them,",
    ),
    Situation(
        "a band that no scene has",
        f"{SCENES} --bands=1,2,9",
        "--bands",
        "no band of that number; the scene has 1 (red), 2 (green), 3",
    ),
    Situation(
        "a band numbered from 0",
        f"{SCENES} --bands=0,1,2",
        "--bands",
        "no band of that number; the scene has 1 (red), 2 (green), 3",
    ),
    Situation(
        "fewer bands than the model has",
        f"{SCENES} --bands=1,2",
        "--bands",
        "name as many, in that order",
    ),
    Situation(
        "bands by names that no scene has",
        f"{SCENES} --bands=nir,red,green",
        "--bands",
        "no band of that name; the scene has 1 (red), 2 (green), 3 (blue)",
    ),
    Situation(
        "a reference system that is none",
        f"{SCENES} --crs=mercator",
        "--crs",
        "write one such as EPSG:",
    ),
    Situation(
        "a reference system of no number",
        f"{SCENES} --crs=EPSG:0",
        "--crs",
        "write one such as EPSG:",
    ),
    Situation("an empty reference system", f"{SCENES} --crs=", "--crs", "write one such as EPSG:"),
    Situation(
        "a vertical reference system",
        f"{SCENES} --crs=EPSG:5773",
        "--crs",
        "write one such as EPSG:",
    ),
    # Patterns of stacks.
    Situation(
        "a stack without a band",
        f"{SCENES} --stack={{scene}}.tif",
        "--stack",
        "the pattern {scene}.tif must have {band}, as in",
    ),
    Situation(
        "a stack with brackets that do not close",
        f"{SCENES} '--stack={{scene_{{band}}.tif'",
        "--stack",
        "the pattern {scene_{band}.tif must have {scene}, as in",
    ),
    Situation(
        "a stack of an unknown part",
        f"{SCENES} '--stack={{place}}_{{band}}.tif'",
        "--stack",
        "the pattern {place}_{band}.tif must have {scene}, as in",
    ),
    Situation(
        "a stack that nothing matches",
        f"{SCENES} '--stack={{scene}}_SR_{{band}}.TIF'",
        "--stack",
        "it is about paths below the folder of --input",
    ),
    Situation(
        "a stack by a file that is none", f"{SCENES} --stack=none.toml", "none.toml", "no such file"
    ),
    Situation(
        "a stack by a file that is no TOML",
        f"{SCENES} --stack=stack.toml",
        "stack.toml",
        "Invalid initial character for a key part (at end of document)",
        make=put("stack.toml", "["),
    ),
    Situation(
        "a stack by a file of other keys",
        f"{SCENES} --stack=stack.toml",
        "stack.toml",
        "did you mean pattern?",
        make=put("stack.toml", "patern = 'x'"),
    ),
    # Beam's own.
    Situation(
        "a runner that is none",
        f"{PHOTOS} --runner=FastRunner",
        "FastRunner",
        ". Valid values are DataflowRunner, BundleBasedDirectRunner,",
    ),
    Situation(
        "a number of workers that is none",
        f"{PHOTOS} --direct_num_workers=many",
        "direct_num_workers",
        "invalid int value: 'many'",
    ),
    Situation(
        "a running mode that is none",
        f"{PHOTOS} --direct_running_mode=fast",
        "direct_running_mode",
        "'fast' (choose from 'in_memory', 'multi_threading',",
    ),
    Situation(
        "relative paths for workers elsewhere",
        f"{PHOTOS} --runner=FlinkRunner",
        "photos",
        "give the absolute path of a place that all machines have, or an",
    ),
    Situation(
        "Dataflow without a project",
        "segment --input=gs://in/a --model=gs://in/m --output=gs://out/r "
        "--runner=DataflowRunner --region=europe-west1",
        "gs://",
        "run `gcloud auth application-default login`, or set",
    ),
    Situation(
        "Dask without its cluster",
        "segment --input=$PWD/photos --model=$PWD/model --output=$PWD/run --runner=DaskRunner",
        "DaskRunner",
        "beamseg is tested with a cluster that is there before it",
    ),
    Situation(
        "an accelerator in no notation",
        f"{PHOTOS} --accelerator=gpu",
        "--accelerator",
        "give --runner=DataflowRunner, or leave it out, as TensorFlow",
    ),
    Situation(
        "a pack that is not waited for",
        f"{PACK} --no_wait_until_finish",
        "--no_wait_until_finish",
        "leave --no_wait_until_finish, --template_location and --dry_run",
    ),
    Situation(
        "an experiment of Beam without a value",
        f"{PHOTOS} --experiments",
        "experiments",
        "expected one argument",
    ),
    Situation(
        "a runner address that is none",
        "segment --input=$PWD/photos --model=$PWD/model --output=run "
        "--runner=PortableRunner --job_endpoint=nowhere",
        "PortableRunner",
        "give the absolute path of a place that all machines have, or an",
    ),
)
