"""What may go wrong around a run, done on purpose: it ends with right bytes, or says what to do.

    python -m tools.reliability kills --count 1000 --seed 1

| module | what it does |
| --- | --- |
| `bench` | inputs of every kind, runs over them, and the judgement of how they end |
| `quick` | in the process of a run: what makes it cheap |
| `points` | in the process of a run: the calls at which it can be killed |
| `kills` | kills runs, and those that continue them, before and after these calls |
| `pairs` | starts two runs into one directory |
| `disks` | gives runs a disk that is too small |
| `requests` | a gateway that fails one request to a store, in one of many ways |
| `stores` | runs whose store fails one request |
| `flips` | flips bits in run directories |
| `models` | changes SavedModels |

A trial is one of these with a number: the same number and seed repeat it.
"""
