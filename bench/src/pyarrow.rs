//! Writing Parquet from memory: our writer beside pyarrow's, on the same rows with the same settings, in turn.
//!
//! Both read the full file of a snapshot into memory first, which doesn't count; both write to a file. pyarrow is told what our
//! file has: zstd at level 1, as many rows in a group, statistics of pages, and no dictionary for the columns of our own.

use std::io::BufWriter;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Setting;
use crate::rounds::{Rounds, rate};
use crate::table::{Finding, Goal};

const WHAT: &str = "Parquet of all employees, written from memory";

/// Reads a file's name, rows in a group and where to write; then writes once for each line, and answers the seconds.
const THEIRS: &str = r#"
import sys, time
import pyarrow.parquet as pq
source, target, group = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = pq.read_table(source, use_threads=False)
own = {"_key", "_version", "_changed"}
columns = [name for name in table.column_names if name not in own]
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    pq.write_table(table, target, row_group_size=group, compression="zstd", compression_level=1, use_dictionary=columns,
                   write_statistics=True, write_page_index=True, store_schema=True)
    print(time.perf_counter() - began, flush=True)
"#;

/// Measures both on the full file of a snapshot.
pub async fn findings(setting: &Setting, full: &Path) -> Result<Vec<Finding>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(full)?)?.with_batch_size(4_096);
    let groups = reader.metadata().num_row_groups().max(1);
    let batches: Vec<RecordBatch> = reader.build()?.collect::<Result<_, _>>()?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let Some(theirs) = Theirs::start(setting, full, rows.div_ceil(groups)).await? else {
        return Ok(vec![Finding::missing(WHAT, "pyarrow isn't here: `python3 -c 'import pyarrow'`")]);
    };
    let theirs = tokio::sync::Mutex::new(theirs);
    let target = setting.scratch.join("ours.parquet");
    let times = Rounds::in_turn(
        setting.amount(5, 1),
        async || tokio::task::block_in_place(|| written(&batches, &target)),
        async || theirs.lock().await.write().await,
    )
    .await?;
    let size = |name: &str| -> Result<f64> { Ok(std::fs::metadata(setting.scratch.join(name))?.len() as f64 / 1e6) };
    let note =
        format!("{rows} rows, {:.0} MB by ours, {:.0} MB by pyarrow", size("ours.parquet")?, size("theirs.parquet")?);
    let figures = (rate(rows, &times.ours), rate(rows, &times.theirs));
    let against = format!("pyarrow {}, same settings", theirs.lock().await.version);
    let beside = Finding::beside(WHAT, against, figures, "rows/s", times.ratio());
    Ok(vec![beside.wants(Goal::RatioAtLeast(0.8)).noting(note)])
}

fn written(batches: &[RecordBatch], target: &Path) -> Result<f64> {
    let first = batches.first().context("no rows")?;
    let began = Instant::now();
    let file = BufWriter::new(std::fs::File::create(target)?);
    let mut writer = sinks::snapshot::table_writer(file, &first.schema())?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    Ok(began.elapsed().as_secs_f64())
}

/// A Python that has the rows in memory. Ends when dropped.
struct Theirs {
    _child: Child,
    ask: ChildStdin,
    answers: tokio::io::Lines<BufReader<ChildStdout>>,
    version: String,
}

impl Theirs {
    /// `None`: there is no pyarrow.
    async fn start(setting: &Setting, source: &Path, group: usize) -> Result<Option<Self>> {
        let version = Command::new("python3").args(["-c", "import pyarrow; print(pyarrow.__version__)"]).output().await;
        let Ok(version) = version else { return Ok(None) };
        if !version.status.success() {
            return Ok(None);
        }
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let mut command = Command::new("python3");
        command.arg("-c").arg(THEIRS).arg(source).arg(setting.scratch.join("theirs.parquet")).arg(group.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let ask = child.stdin.take().context("its input")?;
        let answers = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut theirs = Self { _child: child, ask, answers, version };
        ensure!(theirs.answer().await? == "ready", "pyarrow didn't get ready");
        Ok(Some(theirs))
    }

    async fn write(&mut self) -> Result<f64> {
        self.ask.write_all(b"\n").await?;
        self.ask.flush().await?;
        Ok(self.answer().await?.parse()?)
    }

    async fn answer(&mut self) -> Result<String> {
        self.answers.next_line().await?.context("pyarrow has ended")
    }
}
