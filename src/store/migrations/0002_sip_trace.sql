-- The SIP messages of a call, as a JSON document. Numbers and names stand in it: it goes with its call, and before it.
CREATE TABLE sip_traces (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    call    TEXT NOT NULL UNIQUE REFERENCES calls (id) ON DELETE CASCADE,
    kept_ms INTEGER NOT NULL,
    trace   TEXT NOT NULL
) STRICT;
