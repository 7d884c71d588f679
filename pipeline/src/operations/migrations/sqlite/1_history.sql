-- History for people: all of it can be rebuilt or lost without losing data.

create table runs (
    id          text primary key,
    source      text not null,
    ask         text not null,
    window_from text,
    window_to   text,
    started     text not null,
    ended       text,
    success     integer,
    read        integer not null default 0,
    delivered   integer not null default 0,
    unchanged   integer not null default 0,
    superseded  integer not null default 0,
    stale       integer not null default 0,
    rejected    integer not null default 0,
    parked      integer not null default 0,
    vanished    integer not null default 0,
    error       text
);
create index runs_by_source on runs (source, started);

create table letters (
    id        text primary key,
    state     text not null,
    component text not null,
    topic     text,
    partition integer,
    "offset"  integer,
    key       text,
    version   integer,
    code      text not null,
    reason    text not null,
    at        text not null,
    run       text,
    settled   text,
    letter    text not null
);
create index letters_by_state on letters (state, component, key);
create index letters_by_time on letters (at);

create table ledger (
    component  text not null,
    process    text not null,
    since      text not null,
    updated    text not null,
    read       integer not null,
    delivered  integer not null,
    unchanged  integer not null,
    superseded integer not null,
    stale      integer not null,
    rejected   integer not null,
    parked     integer not null,
    primary key (component, process)
);
