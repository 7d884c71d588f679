//! A history: what happens to the system, the processes, the log and the target, drawn from a seed.

mod nights;
mod plans;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use fastrand::Rng;
use pipeline::clock::Clock;
use pipeline::emitter::disk::SimulatedDisk;
use pipeline::log::memory::{Delivery, Fault, MemoryOptions, When};
use pipeline::run::Mode;

use crate::common::processors::{applicant, applicant_id, milestone, milestone_id};
use crate::common::sink::{Backup, Target, Trouble};
use crate::common::{World, reason};
use crate::machine::{Aim, Ended, Machine, Process, Sim, Strikes};
use crate::oracle::{self, Plan};
use crate::outside::{APPLICANTS, Held, MILESTONES, Outside, REASONS};
use crate::steps::{Coverage, Durable};

/// In milliseconds.
const LONGEST_STALL: u64 = 20_000;

/// Reasons, milestones, applicants that come and go; far behind them stand those that a plan has for itself.
const IDS: u32 = 6;
/// How long the end may take in virtual time: a put-off source waits for minutes, and what has vanished for two passes.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// What a seed decides once.
struct Shape {
    mode: Mode,
    /// A second process on a second machine, at the same time.
    two: bool,
    /// Disks outlive processes.
    disks: bool,
    /// Some records are bad.
    plans: bool,
}

struct History {
    random: Rng,
    shape: Shape,
    sim: Sim,
    plan: Plan,
    machines: Vec<Machine>,
    backup: Option<Backup>,
    /// A topic was lost in the last night: targets are swept.
    lost: bool,
}

/// What became of a seed.
pub struct Told {
    /// Of everything that was appended, and when.
    pub digest: u64,
}

/// Plays the history of a seed; `Err` says what is wrong in the end.
pub async fn play(seed: u64, coverage: &Coverage) -> Result<Told, String> {
    fastrand::seed(seed);
    let mut random = Rng::with_seed(seed);
    let once = seed.is_multiple_of(4);
    let shape = Shape {
        mode: if once { Mode::Once } else { Mode::Follow },
        two: !once && random.u8(0..3) == 0,
        // What vanishes is absent from two complete passes: single ones must remember the one before.
        disks: once || random.u8(0..3) == 0,
        plans: random.u8(0..3) == 0,
    };
    let options = MemoryOptions {
        chunk_records: *random.choice(&[2, 5, 500]).unwrap(),
        session_timeout: Duration::from_secs(*random.choice(&[0, 0, 6]).unwrap()),
        ..MemoryOptions::default()
    };
    let partitions = *random.choice(&[1, 1, 1, 2]).unwrap();
    let world = World::simulated(options, partitions).await;
    let outside = Outside::new(&world.clock, random.bool(), random.bool(), random.usize(2..5));
    let target = Target::new(&world.clock);
    let sim = Sim {
        world,
        outside,
        target,
        // A third of them: their store is one more file on every disk.
        standings: seed.is_multiple_of(3),
        reasons: Arc::default(),
        coverage: coverage.clone(),
        aloud: std::env::var_os("MUSTER_STEPS").is_some(),
        digest: Arc::new(Mutex::new(xxhash_rust::xxh3::Xxh3::new())),
    };
    let machines = ["north", "south"].into_iter().take(if shape.two { 2 } else { 1 });
    let machines = machines.map(|name| Machine { name: name.into(), disk: shape.disks.then(SimulatedDisk::default) });
    let machines = machines.collect();
    let mut history = History { random, shape, sim, plan: Plan::default(), machines, backup: None, lost: false };
    history.deliveries();
    for round in 0..history.random.u32(2..5) {
        history.night(round).await;
        history.day(round).await?;
    }
    history.end().await?;
    let digest = history.sim.digest.lock().unwrap().digest();
    Ok(Told { digest })
}

impl History {
    /// What else happens, where every step is printed.
    fn say(&self, what: &str) {
        if self.sim.aloud {
            eprintln!("{} {what}", self.sim.world.clock.now());
        }
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.random.u8(0..n) == 0
    }

    /// Some records come twice, some late; which ones depends on where they stand alone.
    fn deliveries(&mut self) {
        let salt = self.random.u64(..);
        let often = *self.random.choice(&[0, 0, 5, 20]).unwrap();
        if often == 0 {
            return;
        }
        self.sim.world.log.set_delivery(Arc::new(move |record| {
            let place = format!("{}@{}", record.at, record.offset);
            let drawn = xxhash_rust::xxh3::xxh3_64_with_seed(place.as_bytes(), salt);
            match drawn % (2 * often) {
                0 => Delivery::Twice,
                // State is followed, too: a claim may be late, as it may be on a slow network.
                1 => Delivery::After(Duration::from_millis(drawn / 64 % 700)),
                _ => Delivery::Now,
            }
        }));
    }

    /// Processes run, are struck, and end; the system changes meanwhile.
    async fn day(&mut self, round: u32) -> Result<(), String> {
        let (drift, failures) = (self.random.fork(), self.random.fork());
        let (drifts, fails) = (self.one_in(2), self.one_in(4));
        self.sim.outside.drifts(drifts.then_some(drift), 4);
        self.sim.outside.fails(fails.then_some(failures), 6);
        if self.one_in(3) {
            self.sim
                .target
                .meets([*self.random.choice(&[Trouble::Away, Trouble::LostAnswer, Trouble::Fenced]).unwrap()]);
        }
        if self.shape.plans {
            self.plan_for(round);
        }
        let mut running = Vec::new();
        for at in 0..self.machines.len() {
            let strikes = self.strikes();
            running.push((at, self.start(at, strikes)));
        }
        if self.shape.mode == Mode::Once {
            for (_, mut process) in running {
                let ended = process.ended_within(PATIENCE).await;
                self.note_end(&ended.ok_or("a pass of all loops never ended")?)?;
            }
            return Ok(());
        }
        for _ in 0..self.random.u32(1..4) {
            let until = Duration::from_millis(self.random.u64(100..5_000));
            self.world_goes_on(&mut running, until).await?;
            self.change();
            if self.one_in(4) {
                let away = self.random.bool();
                self.sim.outside.away(away);
            }
            if self.one_in(4) {
                let seconds = self.random.i64(-7200..7200);
                self.step_clock(TimeDelta::seconds(seconds));
            }
            if self.one_in(6) {
                self.sim.world.log.expire_member("muster.register", 0);
            }
        }
        self.sim.outside.away(false);
        for (_, mut process) in running {
            if self.one_in(3) {
                process.kill().await;
            } else {
                process.faults.calm();
                let ended = process.stop().await?;
                self.note_end(&ended)?;
            }
        }
        Ok(())
    }

    /// Lets time pass; who has crashed or ended is started again.
    async fn world_goes_on(&mut self, running: &mut [(usize, Process)], time: Duration) -> Result<(), String> {
        for (at, process) in running {
            let Some(ended) = process.ended_within(time).await else { continue };
            self.note_end(&ended)?;
            let strikes = self.strikes();
            *process = self.start(*at, strikes);
        }
        Ok(())
    }

    fn note_end(&mut self, ended: &Ended) -> Result<(), String> {
        match ended {
            Ended::Done | Ended::Crashed => Ok(()),
            // What can pass ends a process only where it begins, or where it was told to make one pass.
            Ended::Failed(error) if error.can_pass().is_some() => Ok(()),
            Ended::Failed(error) => Err(format!("a process ended, a person must act: {error}")),
        }
    }

    fn start(&mut self, at: usize, strikes: Strikes) -> Process {
        let unsynced_survives = self.random.bool();
        self.machines[at].start(&self.sim, self.shape.mode, strikes, unsynced_survives)
    }

    /// Every third process is struck anywhere, the others at a step that is drawn, so that rare steps get their turn.
    fn strikes(&mut self) -> Strikes {
        let mut aimed = Vec::new();
        for _ in 0..self.random.u32(1..4) {
            let fault = match self.random.u8(0..8) {
                0..4 => Fault::Crash,
                4..7 => Fault::Unavailable,
                _ => Fault::Stall(Duration::from_millis(self.random.u64(1..LONGEST_STALL))),
            };
            let aim = if self.one_in(3) {
                Aim::Nth(self.random.u32(0..200))
            } else {
                let step = *self.random.choice(Durable::ALL).unwrap();
                let when = if self.random.bool() { When::Before } else { When::After };
                Aim::Step(step, when, self.random.u32(0..3))
            };
            aimed.push((aim, fault));
        }
        // A sweep is rare, and its end is one step of thousands.
        if self.lost && self.one_in(2) {
            let fault = if self.random.bool() { Fault::Crash } else { Fault::Unavailable };
            let when = if self.random.bool() { When::Before } else { When::After };
            aimed.insert(0, (Aim::Step(Durable::TargetSwept, when, 0), fault));
        }
        let random = self.random.fork();
        let flaky = self.one_in(6).then_some((random, 30, 10));
        Strikes { aimed, flaky }
    }

    /// A few rows come, change or go.
    fn change(&mut self) {
        for _ in 0..self.random.u32(1..6) {
            let n = self.random.u32(0..IDS);
            let name = format!("name {}", self.random.u32(0..3));
            let gone = self.one_in(6);
            let outside = &self.sim.outside;
            match self.random.u8(0..5) {
                0 | 1 if gone => outside.remove(REASONS, &applicant_id(n)),
                0 | 1 => outside.set(REASONS, &applicant_id(n), Held::Reason(reason(&applicant_id(n), &name))),
                2 if gone => outside.remove(MILESTONES, &milestone_id(n)),
                2 => outside.set(MILESTONES, &milestone_id(n), Held::Milestone(milestone(n, &name))),
                _ if gone => outside.remove(APPLICANTS, &applicant_id(n)),
                _ => {
                    let reached: Vec<u32> = (0..IDS).filter(|_| self.random.u8(0..3) == 0).collect();
                    outside.set(APPLICANTS, &applicant_id(n), Held::Applicant(Box::new(applicant(n, &name, &reached))));
                }
            }
        }
    }

    /// Nothing fails any more: what the system holds arrives, and everything agrees.
    async fn end(&mut self) -> Result<(), String> {
        self.sim.outside.drifts(None, 1);
        self.sim.outside.fails(None, 1);
        self.sim.outside.away(false);
        self.sim.target.parks(&[]);
        self.sim.outside.remove(REASONS, "unreadable");
        self.settle("all is well").await?;
        if self.shape.plans {
            self.mend().await?;
        }
        Ok(())
    }

    /// Processes run undisturbed until everything agrees.
    async fn settle(&mut self, when: &str) -> Result<(), String> {
        // What those who were killed had on its way arrives first: later on, it would be healed by owners that go on.
        tokio::time::sleep(Duration::from_millis(LONGEST_STALL)).await;
        let mut running: Vec<(usize, Process)> =
            (0..self.machines.len()).map(|at| (at, self.start(at, Strikes::default()))).collect();
        let mut last = String::new();
        for pass in 0.. {
            if self.shape.mode == Mode::Once {
                for (at, process) in &mut running {
                    let ended = process.ended_within(PATIENCE).await.ok_or("the last pass never ended")?;
                    if !matches!(ended, Ended::Done) {
                        return Err(format!("the last processes must end well: {ended:?}"));
                    }
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    *process = self.machines[*at].start(&self.sim, Mode::Once, Strikes::default(), true);
                }
            } else {
                for (_, process) in &mut running {
                    if let Some(ended) = process.ended_within(Duration::from_secs(2)).await {
                        return Err(format!("{when}: a process ended by itself: {ended:?}"));
                    }
                }
            }
            match oracle::check(&self.sim, &self.plan).await {
                Ok(()) => break,
                Err(_) if pass < 150 => {}
                Err(wrong) => {
                    last = wrong;
                    for (_, process) in &running {
                        for (name, health) in process.health.components() {
                            last += &format!("\n{name}: {:?} since {}", health.standing, health.progressed);
                        }
                    }
                    break;
                }
            }
        }
        // All at once: whoever went on alone would take over, and heal what the other one had left.
        let stopping = running.into_iter().map(|(_, process)| process.stop());
        futures::future::try_join_all(stopping).await?;
        if !last.is_empty() {
            return Err(format!("{when}: {last}"));
        }
        // Nothing moves any more, either.
        oracle::check(&self.sim, &self.plan).await.map_err(|wrong| format!("{when}, and stopped: {wrong}"))
    }
}
