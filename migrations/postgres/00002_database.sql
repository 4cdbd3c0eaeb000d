-- +goose Up

-- Which database this is, in one row: the Booster remembers it, so that no worker takes the steps of another one.
CREATE TABLE omflow_booster_database (
    one boolean     PRIMARY KEY DEFAULT true CHECK (one),
    id  varchar(40) NOT NULL
);
INSERT INTO omflow_booster_database (id) VALUES (md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text));

-- +goose Down
DROP TABLE omflow_booster_database;
