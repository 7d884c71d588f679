-- History for people: all of it can be rebuilt or lost without losing data. As in SQLite, in PostgreSQL's types.

create table runs (
    id          text primary key,
    source      text not null,
    ask         text not null,
    window_from date,
    window_to   date,
    started     timestamptz not null,
    ended       timestamptz,
    success     boolean,
    read        bigint not null default 0,
    delivered   bigint not null default 0,
    unchanged   bigint not null default 0,
    superseded  bigint not null default 0,
    stale       bigint not null default 0,
    rejected    bigint not null default 0,
    parked      bigint not null default 0,
    vanished    bigint not null default 0,
    error       text,
    -- SQLite counts its rows under this name, too: of two runs that began at once, the later.
    rowid       bigint generated always as identity
);
create index runs_by_source on runs (source, started);

create table letters (
    id        text primary key,
    state     text not null,
    component text not null,
    topic     text,
    key       text,
    version   bigint,
    code      text not null,
    reason    text not null,
    at        timestamptz not null,
    run       text,
    settled   timestamptz,
    letter    text not null
);
create index letters_by_state on letters (state, component, key);
create index letters_by_time on letters (at);

create table ledger (
    component  text not null,
    process    text not null,
    since      timestamptz not null,
    updated    timestamptz not null,
    read       bigint not null,
    delivered  bigint not null,
    unchanged  bigint not null,
    superseded bigint not null,
    stale      bigint not null,
    rejected   bigint not null,
    parked     bigint not null,
    primary key (component, process)
);
