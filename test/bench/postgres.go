package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/omflow-booster/omflow-booster/internal/freeport"
)

// postgres is a private PostgreSQL server as its package configures it: every commit is flushed to the disk.
type postgres struct {
	*process
	port    int
	version string
}

const postgresSettings = `
listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = ''
max_connections = 300
`

// postgresPrograms is the directory of the newest PostgreSQL that Debian has installed.
func postgresPrograms() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if other, err := exec.LookPath("postgres"); err == nil {
		found = append(found, other)
	}
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is missing: apt-get install postgresql (Debian), or leave out the peers that need it: see --peers")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// startPostgres starts an empty server in a directory of its own below dir.
func startPostgres(ctx context.Context, dir string) (*postgres, error) {
	programs, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "postgres")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	var credential *syscall.Credential
	if os.Geteuid() == 0 { // PostgreSQL refuses to be root
		if credential, err = postgresUser(home, dir); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(home, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(programs, "initdb"), "--pgdata="+data, "--username=bench", "--auth=trust",
		"--encoding=UTF8", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = home, &syscall.SysProcAttr{Credential: credential}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := freeport.Take(ctx)
	if err != nil {
		return nil, err
	}
	settings, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(settings, postgresSettings, port)
	if err := errors.Join(err, settings.Close()); err != nil {
		return nil, err
	}
	pg := &postgres{port: port}
	pg.process, err = command{
		name: "postgresql", dir: home, user: credential, stop: syscall.SIGINT, // ends sessions, too
		argv: []string{filepath.Join(programs, "postgres"), "-D", data},
	}.start()
	if err != nil {
		return nil, err
	}
	err = pg.ready(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, pg.url("postgres"))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		return conn.QueryRow(ctx, "SHOW server_version").Scan(&pg.version)
	})
	if err != nil {
		pg.end()
		return nil, err
	}
	return pg, nil
}

// postgresUser gives the directory to the user postgres of Debian's package, who must also be able to reach it.
func postgresUser(home, dir string) (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL cannot run as root, and there is no user postgres: %w", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(home, uid, gid)
}

func (pg *postgres) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("bench", "bench"), Host: "127.0.0.1:" + strconv.Itoa(pg.port), Path: database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// create makes an empty database, or a copy of another one, and returns its URL.
func (pg *postgres) create(ctx context.Context, name, template string) (string, error) {
	return pg.url(name), pg.exec(ctx, "postgres", "CREATE DATABASE "+quoted(name)+" TEMPLATE "+quoted(template))
}

// drop removes a database, whoever is connected to it.
func (pg *postgres) drop(ctx context.Context, name string) error {
	return pg.exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+quoted(name)+" WITH (FORCE)")
}

// exec runs statements, one after the other.
func (pg *postgres) exec(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, pg.url(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(statement), err)
		}
	}
	return nil
}

// settle writes out what earlier phases have left in memory, so that the next one does not pay for it.
func (pg *postgres) settle(ctx context.Context) error { return pg.exec(ctx, "postgres", "CHECKPOINT") }

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }
