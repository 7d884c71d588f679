//! What others write that rdkafka can't read: bytes on the wire, since no client of ours could write them.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Cluster, at, cluster, log};
use crate::log::{Log, LogError, Offset};

const PRODUCE: i16 = 0;
const OFFSET_COMMIT: i16 = 8;

fn text(text: &[u8]) -> Vec<u8> {
    [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&i32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Sends one request and waits for its answer.
fn request(cluster: &Cluster, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(cluster.bootstrap_servers().split(',').next().unwrap()).unwrap();
    let header = [&api.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), &text(b"stranger")].concat();
    stream.write_all(&sized(&[&header[..], body].concat())).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}

/// A batch (format 2) of one record with the key `asha`, the value `hired` and headers of these names.
fn batch(names: &[&[u8]]) -> Vec<u8> {
    // Lengths are zigzag numbers; those below 64 take one byte.
    let short = |length: usize| u8::try_from(length * 2).unwrap();
    let mut record = vec![0, 0, 0, short(4)];
    record.extend(b"asha");
    record.push(short(5));
    record.extend(b"hired");
    record.push(short(names.len()));
    for name in names {
        record.push(short(name.len()));
        record.extend(*name);
        record.push(short(1));
        record.extend(b"7");
    }
    let mut summed = [0; 2 + 4].to_vec();
    summed.extend([0; 16]);
    summed.extend((-1_i64).to_be_bytes());
    summed.extend((-1_i16).to_be_bytes());
    summed.extend((-1_i32).to_be_bytes());
    summed.extend(1_i32.to_be_bytes());
    summed.push(short(record.len()));
    summed.extend(record);
    let tail = [&(-1_i32).to_be_bytes()[..], &[2], &crc32c(&summed).to_be_bytes(), &summed].concat();
    [&0_i64.to_be_bytes()[..], &sized(&tail)].concat()
}

#[tokio::test]
async fn a_header_whose_name_is_not_text_is_skipped() {
    let cluster = cluster();
    let log = log(&cluster).await;
    let head = [&(-1_i16).to_be_bytes()[..], &(-1_i16).to_be_bytes(), &5_000_i32.to_be_bytes()].concat();
    let one = 1_i32.to_be_bytes();
    let records = sized(&batch(&[b"version", &[0xC3, 0x28], b"run"]));
    let body = [&head[..], &one, &text(b"nurses"), &one, &0_i32.to_be_bytes(), &records].concat();
    request(&cluster, PRODUCE, 3, &body);
    assert_eq!(log.ends("nurses").await.unwrap()[0].end, Offset(1));

    let mut reader = log.read(&[(at(0), Offset(0))]).await.unwrap();
    let chunk = reader.next().await.unwrap();
    assert_eq!(chunk.records[0].value.as_deref(), Some(&b"hired"[..]));
    let names: Vec<_> = chunk.records[0].headers.0.iter().map(|(name, _)| name.as_ref()).collect();
    assert_eq!(names, ["version", "run"]);
}

#[tokio::test]
async fn metadata_that_is_not_text_is_refused() {
    let cluster = cluster();
    let log = log(&cluster).await;
    let member = [&text(b"register")[..], &(-1_i32).to_be_bytes(), &text(b""), &(-1_i64).to_be_bytes()].concat();
    let one = 1_i32.to_be_bytes();
    let place = [&0_i32.to_be_bytes()[..], &5_i64.to_be_bytes(), &text(&[0xC3, 0x28])].concat();
    let body = [&member[..], &one, &text(b"nurses"), &one, &place].concat();
    request(&cluster, OFFSET_COMMIT, 2, &body);

    let refused = log.committed("register", &[at(0)]).await.unwrap_err();
    assert!(matches!(&refused, LogError::Refused { hint, .. } if hint.contains("group of its own")), "{refused}");
}
