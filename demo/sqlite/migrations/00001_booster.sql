-- The tables of migrations/postgres in SQLite's dialect. What each is for is said there.

-- +goose Up
CREATE TABLE omflow_booster_outbox (
    id         integer   PRIMARY KEY AUTOINCREMENT, -- a key is never given twice: it is the identity of a step
    item_key   text      NOT NULL UNIQUE,
    body       text      NOT NULL,
    created_at timestamp NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS integer))
);

CREATE TABLE omflow_booster_giveback (
    source     char(1) NOT NULL,
    row_id     bigint  NOT NULL,
    stream_seq bigint  NOT NULL,
    deliveries integer NOT NULL,
    PRIMARY KEY (source, row_id)
);

CREATE TABLE omflow_booster_history (
    id          integer      PRIMARY KEY AUTOINCREMENT,
    work_id     varchar(24)  NOT NULL,
    kind        varchar(100) NOT NULL,
    flow        varchar(100) NOT NULL,
    ticket      varchar(150) NOT NULL,
    worker      varchar(100) NOT NULL,
    attempt     integer      NOT NULL,
    outcome     varchar(10)  NOT NULL,
    error       text         NOT NULL,
    started_at  timestamp    NOT NULL,
    duration_us bigint       NOT NULL
);
CREATE INDEX omflow_booster_history_started ON omflow_booster_history (started_at);
CREATE INDEX omflow_booster_history_ticket ON omflow_booster_history (ticket);

-- +goose Down
DROP TABLE omflow_booster_history;
DROP TABLE omflow_booster_giveback;
DROP TABLE omflow_booster_outbox;
