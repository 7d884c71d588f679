//! Our Avro codec beside apache-avro's generic values: records as applicants are polled, on one core, in the thread's
//! own time on it.

use anyhow::{Context, Result, ensure};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use schemas::records::ats::Applicant;
use schemas::{Entity, Schema};

use crate::rounds::{Rounds, own_seconds, rate};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting, people};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "avro", about: "decoding and encoding applicants", run: |setting| Box::pin(run(setting)) };

const UNIT: &str = "records/s";

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let (records, times) = (setting.amount(5_000, 200), setting.amount(20, 1));
    let schema = &schemas::catalogue().entity(Applicant::TOPIC).context("no such topic")?.schema;
    let applicants: Vec<Applicant> = (0..records as u64).map(|number| people::applicant(number, 0)).collect();
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for applicant in &applicants {
        let mut body = Vec::new();
        schemas::to_avro(schema, applicant, &mut body)?;
        bodies.push(body);
    }
    let bytes = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len();
    agrees(schema, &bodies[0], &applicants[0])?;

    let theirs = GenericDatumReader::builder(schema.avro()).build()?;
    let apache = || {
        own_seconds(|| {
            for body in again(times, &bodies) {
                let mut body = body.as_slice();
                std::hint::black_box(theirs.read_value(&mut body)?);
                ensure!(body.is_empty(), "bytes behind the record");
            }
            Ok(())
        })
    };
    let checked = || own_seconds(|| Ok(again(times, &bodies).try_for_each(|body| schemas::check(schema, body))?));
    let values = || {
        own_seconds(|| {
            for body in again(times, &bodies) {
                std::hint::black_box(schemas::values(schema, body)?);
            }
            Ok(())
        })
    };
    let typed = || {
        own_seconds(|| {
            for body in again(times, &bodies) {
                std::hint::black_box(schemas::from_avro::<Applicant>(schema, body)?);
            }
            Ok(())
        })
    };

    let (rounds, count) = (setting.amount(9, 1), records * times);
    let against = "apache-avro 0.22, `GenericDatumReader` to `Value`";
    let mut findings = Vec::new();
    let all = Rounds::in_turn(rounds, async || values(), async || apache()).await?;
    let what = format!("Avro decode of an applicant ({bytes} bytes), checked, to values (`schemas::values`)");
    findings.push(finding(what, against, count, &all).wants(Goal::RatioAtLeast(3.0)));
    let all = Rounds::in_turn(rounds, async || typed(), async || apache()).await?;
    findings.push(finding("the same, to a struct (`schemas::from_avro`)", against, count, &all));
    let all = Rounds::in_turn(rounds, async || checked(), async || apache()).await?;
    findings.push(finding("the same, checked only (`schemas::check`)", against, count, &all));

    let encode = || {
        let mut body = Vec::with_capacity(4096);
        own_seconds(|| {
            for applicant in again(times, &applicants) {
                body.clear();
                schemas::to_avro(schema, applicant, &mut body)?;
                std::hint::black_box(&body);
            }
            Ok(())
        })
    };
    let writer = GenericDatumWriter::builder(schema.avro()).build()?;
    let values: Vec<apache_avro::types::Value> =
        bodies.iter().map(|body| theirs.read_value(&mut body.as_slice())).collect::<Result<_, _>>()?;
    let apache = || {
        let mut body = Vec::with_capacity(4096);
        own_seconds(|| {
            for value in again(times, &values) {
                body.clear();
                writer.write_value_ref(&mut body, value)?;
                std::hint::black_box(&body);
            }
            Ok(())
        })
    };
    let all = Rounds::in_turn(rounds, async || encode(), async || apache()).await?;
    let what = "Avro encode of a struct (`schemas::to_avro`)";
    findings.push(finding(what, "apache-avro 0.22, from a `Value` that is there already", count, &all));
    Ok(findings)
}

/// Both decoders see the same record, else their times say nothing.
fn agrees(schema: &Schema, body: &[u8], applicant: &Applicant) -> Result<()> {
    let read: Applicant = schemas::from_avro(schema, body)?;
    let values = schemas::values(schema, body)?;
    ensure!(read == *applicant && values.len() == schema.fields().len(), "the codec loses something");
    Ok(())
}

fn again<T>(times: usize, records: &[T]) -> impl Iterator<Item = &T> {
    (0..times).flat_map(move |_| records)
}

fn finding(what: impl Into<String>, against: &str, count: usize, all: &Rounds) -> Finding {
    Finding::beside(what, against, (rate(count, &all.ours), rate(count, &all.theirs)), UNIT, all.ratio())
}
