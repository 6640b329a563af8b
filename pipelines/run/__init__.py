"""What a run is on disk: directory, plan, commit records, failures and tallies."""
