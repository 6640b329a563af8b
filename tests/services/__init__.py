"""Servers that tests of storage run against: on 127.0.0.1 only, started and stopped by pytest.

| module | what |
| --- | --- |
| `processes` | start a server in a process of its own, and stop it for certain |
| `exchange` | requests and answers as plain values; which object a request is about |
| `proxy` | a threaded HTTP/1.1 reverse proxy |
| `faults` | a proxy that fails a seeded share of requests, or all those of some names |
| `gcs`, `s3` | the emulators, each behind a gateway that mends it where it is unlike the store |
| `million` | lists a synthetic bucket of a million objects |
| `tokens` | a throw-away service account, and the server that gives tokens for it |
| `buckets` | what tests put into and read from a service past all faults |
| `fixtures` | all of it as pytest fixtures, imported by `tests/conftest.py` |
"""
