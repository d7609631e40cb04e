"""What came out: the event log, the tables made from it, and the questions asked of them.

- `results.store.events`: `EventLog`, `read_events`: the log, from which everything else is made
- `results.store.lock`: `StudyLock`, `is_held`: one driver per study
- `results.store.tables`: `COLUMNS`, `build`, `compact`, `load_tables`: events -> Arrow and Parquet tables
- `results.query`: `query`, `schema_rows`: read-only SQL
- `results.best`: `best`: the best-config table
- `results.output`: `render`, `write`: terminal, CSV, JSON, Markdown, Parquet
- `results.store.maintain`: `check`, `merge`, `delete`

Importing the package imports none of them: pyarrow and duckdb take 0.2 s each.
"""
