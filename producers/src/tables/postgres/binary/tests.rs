//! Streams cut anywhere, and values that only PostgreSQL can hold.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Rows of fields, as the server sends them.
fn stream(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0; 8]);
    for row in rows {
        bytes.extend((row.len() as i16).to_be_bytes());
        for field in *row {
            match field {
                Some(field) => {
                    bytes.extend((field.len() as i32).to_be_bytes());
                    bytes.extend(*field);
                }
                None => bytes.extend((-1_i32).to_be_bytes()),
            }
        }
    }
    bytes.extend((-1_i16).to_be_bytes());
    bytes
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let bytes = stream(&[&[Some(b"anna"), None], &[Some(b""), Some(b"ward")]]);
    for size in 1..bytes.len() {
        let mut splitter = Splitter::default();
        let mut rows = Vec::new();
        for part in bytes.chunks(size) {
            let row = |row: &BinaryRow<'_>| {
                let text = |at| (!row.is_null(at)).then(|| row.text(at).unwrap().to_owned());
                rows.push((text(0), text(1)));
                true
            };
            assert_eq!(splitter.take(part, row), Ok(true));
        }
        assert!(splitter.is_whole());
        assert_eq!(rows, [(Some("anna".into()), None), (Some(String::new()), Some("ward".into()))], "{size}");
    }
}

#[test]
fn what_is_no_such_stream_is_broken_and_never_a_panic() {
    let whole = stream(&[&[Some(b"anna"), None]]);
    let mut splitter = Splitter::default();
    assert_eq!(splitter.take(b"HTTP/1.1 400 Bad Request", |_| true), Err(Broken));
    let mut splitter = Splitter::default();
    assert_eq!(splitter.take(&whole[..whole.len() - 2], |_| true), Ok(true));
    assert!(!splitter.is_whole());
    for at in 0..whole.len() {
        let mut spoiled = whole.clone();
        spoiled[at] ^= 0xff;
        let _ = Splitter::default().take(&spoiled, |row| {
            let mut out = Vec::new();
            for kind in [ColumnKind::Long, ColumnKind::Date, ColumnKind::Array(Box::new(ColumnKind::Long))] {
                let _ = value(row.field(0), &kind, None, &mut out);
            }
            true
        });
    }
}

#[test]
fn times_are_written_as_postgresql_takes_them() {
    assert_eq!(time(0, true), "2000-01-01 00:00:00.000000+00");
    assert_eq!(time(-1, false), "1999-12-31 23:59:59.999999");
    assert_eq!(time(i64::MAX, true), "infinity");
    assert_eq!(time(-63_113_904_000_000_000 - 86_400_000_000 * 400, false), "0003-11-27 00:00:00.000000 BC");
    assert_eq!(calendar(11_016), "2000-02-29");
    assert_eq!(calendar(2_932_897), "10000-01-01");
}

fn digits(weight: i16, sign: u16, groups: &[u16]) -> Vec<u8> {
    let head = [groups.len() as u16, weight.cast_unsigned(), sign, 0];
    head.iter().chain(groups).flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn numbers_keep_every_digit_or_are_refused() {
    assert_eq!(numeric(&digits(0, 0, &[12, 5_000]), 2), Ok(1_250));
    assert_eq!(numeric(&digits(1, 0x4000, &[1]), 0), Ok(-10_000));
    assert_eq!(numeric(&digits(-1, 0, &[7]), 4), Ok(7));
    assert_eq!(numeric(&digits(0, 0, &[]), 2), Ok(0));
    assert!(numeric(&digits(-1, 0, &[7]), 3).is_err(), "a digit would be lost");
    assert!(numeric(&digits(30, 0, &[9_999]), 2).is_err(), "too long");
    assert_eq!(numeric(&digits(0, 0xc000, &[]), 2).unwrap_err().shown.as_deref(), Some("NaN"));
    assert!(numeric(&[0, 9, 0, 0], 2).is_err());
}
