-- +goose Up

-- Work that was submitted without a row of the OMFLOW Server. A row lives from the submit to the end of the step.
CREATE TABLE omflow_booster_outbox (
    id         bigserial PRIMARY KEY,
    item_key   text        NOT NULL UNIQUE, -- the submitter's own key, or one that we made
    body       text        NOT NULL,        -- the item as JSON
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Deliveries that were given back unstarted: they do not count as tries. A row lives as long as its step.
CREATE TABLE omflow_booster_giveback (
    source     char(1) NOT NULL, -- q: omflow_queuedata, o: omflow_booster_outbox
    row_id     bigint  NOT NULL,
    stream_seq bigint  NOT NULL, -- of the message that was given back; a later message of the step starts anew
    deliveries integer NOT NULL,
    PRIMARY KEY (source, row_id)
);

-- What became of every try of every step.
CREATE TABLE omflow_booster_history (
    id          bigserial PRIMARY KEY,
    work_id     varchar(24)  NOT NULL, -- q<row> or o<row>
    kind        varchar(100) NOT NULL,
    flow        varchar(100) NOT NULL,
    ticket      varchar(150) NOT NULL,
    worker      varchar(100) NOT NULL,
    attempt     integer      NOT NULL,
    outcome     varchar(10)  NOT NULL, -- done, failed, dead
    error       text         NOT NULL,
    started_at  timestamptz  NOT NULL,
    duration_us bigint       NOT NULL
);
CREATE INDEX omflow_booster_history_started ON omflow_booster_history (started_at);
CREATE INDEX omflow_booster_history_ticket ON omflow_booster_history (ticket);

-- +goose Down
DROP TABLE omflow_booster_history;
DROP TABLE omflow_booster_giveback;
DROP TABLE omflow_booster_outbox;
