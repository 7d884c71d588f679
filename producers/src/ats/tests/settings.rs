//! The settings in the file.

use pipeline::config;

use super::*;

fn read(toml: &str) -> Result<AtsConfig, String> {
    let settings =
        config::read("muster.toml", toml, |root| root.section("ats").map(|section| AtsSettings::read(&section)))
            .map_err(|problems| problems.to_string())?;
    settings
        .unwrap()
        .resolve(&|name| (name == "ATS_KEY").then(|| "key".to_owned()))
        .map_err(|problem| problem.to_string())
}

const LEAST: &str = "[ats]\nurl = 'https://ats.example/api/'\napi_key = { env = 'ATS_KEY' }\n";

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = read(LEAST).unwrap();
    assert_eq!((config.page_size, config.concurrency, config.timeout.as_secs()), (50, 5, 50));
    assert_eq!((config.zone, config.from), (chrono_tz::America::Vancouver, None));
    assert_eq!(config.paths, AtsPaths::current());
    assert_eq!(config.api_key.expose(), "key");
}

#[test]
fn paths_are_a_generation_with_exceptions() {
    let config = read(&format!("{LEAST}paths = 'original'\nstaff_path = '/people'")).unwrap();
    assert_eq!(config.paths, AtsPaths { staff: "/people".to_owned(), ..AtsPaths::original() });
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    insta::assert_snapshot!(read("[ats]\nurl = 'ftp://ats.example'\npaths = 'old'\nstaff_path = 'staff?x'\nmax_passes = 1\ntimeout = '0s'\nmax_body = '1KiB'\npage_sise = 3").unwrap_err());
}

#[test]
fn an_address_with_a_query_takes_no_paths() {
    let problem = read(&LEAST.replace("/api/", "/?v=2")).unwrap_err();
    assert!(problem.contains("ats.url: must end before any ? or #"), "{problem}");
}

#[test]
fn a_key_that_no_header_can_carry_is_said_before_anything_is_sent() {
    let config = AtsConfig::new("http://ats.example".parse().unwrap(), "two\nlines");
    let clock = Arc::new(VirtualClock::manual(DateTime::UNIX_EPOCH));
    let error = sources(config, clock).unwrap_err();
    assert_eq!(error.to_string(), "the ATS's api_key holds characters that a header can't carry");
}
