-- The second migration of migrations/postgres.

-- +goose Up
CREATE TABLE omflow_booster_database (
    one integer     PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    id  varchar(40) NOT NULL
);
INSERT INTO omflow_booster_database (id) VALUES (lower(hex(randomblob(16))));

-- +goose Down
DROP TABLE omflow_booster_database;
