//! A machine and the processes that run on it, one after the other: all loops of `muster run`, struck where the history
//! says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use pipeline::clock::Clock;
use pipeline::dead_letters::DeadLetters;
use pipeline::emitter::disk::{Place, SimulatedDisk};
use pipeline::log::Log;
use pipeline::log::memory::{Fault, When};
use pipeline::retry::Policy;
use pipeline::run::{
    AnyProcessor, Feed, Health, Mode, ProcessorTask, RejectLimit, RunError, Runtime, SinkLimits, SinkTask, System,
    Vanished, run_systems,
};
use pipeline::schedule::Schedule;
use pipeline::state::State;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::common::processors::{Applicants, Reasons, Standings};
use crate::common::sink::Target;
use crate::common::{World, topic};
use crate::outside::{self, Outside};
use crate::steps::{Blow, Coverage, Durable};

/// Everything that outlives processes and machines.
pub struct Sim {
    pub world: World,
    pub outside: Outside,
    pub target: Target,
    pub reasons: Arc<Reasons>,
    /// There is a processor of several input topics, too.
    pub standings: bool,
    pub coverage: Coverage,
    /// Every step is printed.
    pub aloud: bool,
    /// What happened, step by step.
    pub digest: Arc<Mutex<xxhash_rust::xxh3::Xxh3>>,
}

/// Where a process is struck.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// At its nth step, whatever that is; each has a before and an after.
    Nth(u32),
    /// At the nth time of this one.
    Step(Durable, When, u32),
}

/// What strikes a process while it runs.
#[derive(Debug, Clone, Default)]
pub struct Strikes {
    pub aimed: Vec<(Aim, Fault)>,
    /// One in so many steps fails besides, so many times: a pass of all loops has hundreds, and must end some time.
    pub flaky: Option<(Rng, u16, u8)>,
}

/// A machine.
pub struct Machine {
    pub name: String,
    /// `None`: each process finds an empty folder, as on a new machine.
    pub disk: Option<SimulatedDisk>,
}

/// Asked at every durable step of one process.
pub struct Faults {
    name: String,
    /// Every step is printed.
    aloud: bool,
    state: Mutex<FaultState>,
    crashed: Notify,
    coverage: Coverage,
    digest: Arc<Mutex<xxhash_rust::xxh3::Xxh3>>,
    clock: Arc<dyn Clock>,
}

struct FaultState {
    dead: bool,
    /// Nothing strikes any more.
    calm: bool,
    seen: u32,
    seen_of: BTreeMap<(Durable, bool), u32>,
    strikes: Strikes,
}

impl Faults {
    /// What is to happen at this step.
    fn ask(&self, step: Durable, when: When, keys: &[u8]) -> Fault {
        let mut state = self.state.lock().unwrap();
        if state.dead {
            return Fault::Crash;
        }
        let after = when == When::After;
        {
            let mut digest = self.digest.lock().unwrap();
            digest.update(&[step as u8, u8::from(after)]);
            digest.update(keys);
            digest.update(&self.clock.now().timestamp_millis().to_le_bytes());
        }
        if self.aloud {
            let at = self.clock.now();
            eprintln!("{at} {} {when:?} {step:?} {}", self.name, String::from_utf8_lossy(keys));
        }
        let nth = state.seen;
        state.seen += 1;
        let of = state.seen_of.entry((step, after)).or_default();
        let nth_of = *of;
        *of += 1;
        if state.calm {
            return Fault::Ok;
        }
        let aimed = state.strikes.aimed.iter().find(|(aim, _)| match aim {
            Aim::Nth(n) => *n == nth,
            Aim::Step(at, side, n) => (*at, *side, *n) == (step, when, nth_of),
        });
        let mut fault = aimed.map_or(Fault::Ok, |(_, fault)| *fault);
        if fault == Fault::Ok
            && let Some((random, one_in, left)) = &mut state.strikes.flaky
            && *left > 0
            && random.u16(0..*one_in) == 0
        {
            *left -= 1;
            fault = Fault::Unavailable;
        }
        match fault {
            Fault::Crash => {
                state.dead = true;
                self.coverage.note(step, when, Blow::Crash);
                self.crashed.notify_one();
            }
            Fault::Unavailable => self.coverage.note(step, when, Blow::Failure),
            Fault::Ok | Fault::Stall(_) => {}
        }
        fault
    }

    /// From now on nothing fails.
    pub fn calm(&self) {
        self.state.lock().unwrap().calm = true;
    }
}

/// A process at work.
pub struct Process {
    pub faults: Arc<Faults>,
    /// What its components are doing.
    pub health: Arc<Health>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
    disk: SimulatedDisk,
    unsynced_survives: bool,
}

/// How a process ended.
#[derive(Debug)]
pub enum Ended {
    Crashed,
    Done,
    Failed(RunError),
}

impl Machine {
    pub fn start(&self, sim: &Sim, mode: Mode, strikes: Strikes, unsynced_survives: bool) -> Process {
        let state = FaultState { dead: false, calm: false, seen: 0, seen_of: BTreeMap::new(), strikes };
        let faults = Arc::new(Faults {
            name: self.name.clone(),
            aloud: sim.aloud,
            state: Mutex::new(state),
            crashed: Notify::new(),
            coverage: sim.coverage.clone(),
            digest: Arc::clone(&sim.digest),
            clock: Arc::new(sim.world.clock.clone()),
        });
        let disk = self.disk.clone().unwrap_or_default();
        let parts = Parts::new(sim, self, &disk, &faults);
        let stop = CancellationToken::new();
        let health = Arc::clone(&parts.health);
        let task = tokio::spawn(parts.run(mode, stop.clone()));
        Process { faults, health, stop, task, disk, unsynced_survives }
    }
}

impl Process {
    /// Waits for its end, or for this time to pass.
    pub async fn ended_within(&mut self, time: Duration) -> Option<Ended> {
        let ended = tokio::select! {
            biased;
            () = self.faults.crashed.notified() => None,
            ended = &mut self.task => Some(ended),
            () = tokio::time::sleep(time) => return None,
        };
        match ended {
            None => {
                self.kill().await;
                Some(Ended::Crashed)
            }
            Some(Ok(Ok(()))) => Some(Ended::Done),
            Some(Ok(Err(error))) => Some(Ended::Failed(error)),
            Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    /// Asks it to end, and gives it the time an operator has.
    pub async fn stop(mut self) -> Result<Ended, String> {
        self.stop.cancel();
        self.ended_within(Duration::from_secs(300)).await.ok_or_else(|| "a process that was told to stop didn't".into())
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.faults.state.lock().unwrap().dead = true;
        self.disk.crash(self.unsynced_survives);
        self.task.abort();
        // Its tasks are dropped when they are next scheduled.
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

/// What a process is put together from: every way out leads past the faults.
struct Parts {
    name: Arc<str>,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    operations: pipeline::operations::Operations,
    folder: Option<Place>,
    topics: Vec<pipeline::log::NewTopic>,
    feeds: Vec<Feed>,
    health: Arc<Health>,
    processors: Vec<Arc<dyn AnyProcessor>>,
    sink: SinkTask,
}

impl Parts {
    fn new(sim: &Sim, machine: &Machine, disk: &SimulatedDisk, faults: &Arc<Faults>) -> Self {
        let of_log = Arc::clone(faults);
        let log = sim.world.log.with_faults(Arc::new(move |step| {
            let mut keys = Vec::new();
            if let pipeline::log::memory::Action::Append { keys: appended, .. } = &step.action {
                for appended in appended.iter() {
                    keys.extend_from_slice(&appended.key);
                    keys.push(u8::from(appended.tombstone));
                }
            }
            of_log.ask(Durable::of_log(step), step.when, &keys)
        }));
        let of_operations = Arc::clone(faults);
        let operations = sim
            .world
            .operations()
            .with_faults(Arc::new(move |write, when| of_operations.ask(Durable::of_operations(write), when, &[])));
        let of_disk = Arc::clone(faults);
        let disk = disk.with_faults(Arc::new(move |when| of_disk.ask(Durable::MemorySynced, when, &[])));
        let of_target = Arc::clone(faults);
        let target =
            sim.target.with_faults(Arc::new(move |step, when| of_target.ask(Durable::of_target(step), when, &[])));
        let feeds = outside::feeds().map(|name| Feed {
            topic: topic(name),
            source: Box::new(sim.outside.feed(name)),
            schedule: Schedule::Every(Duration::from_secs(2)),
            reconcile: Some(Schedule::Every(Duration::from_secs(6))),
            vanished: Vanished::Delete { max_share: 1.0 },
        });
        let mut processors: Vec<Arc<dyn AnyProcessor>> = vec![Arc::clone(&sim.reasons) as _, Arc::new(Applicants)];
        if sim.standings {
            processors.push(Arc::new(Standings::default()));
        }
        let delivered = ["register.reason", "register.applicant", "register.milestone", "register.user"].map(topic);
        let sink = SinkTask {
            name: "register".into(),
            sink: Arc::new(target),
            topics: delivered.into(),
            limits: SinkLimits { sweep_percent: 100, ..SinkLimits::default() },
        };
        Self {
            name: machine.name.as_str().into(),
            log: Arc::new(log),
            clock: Arc::new(sim.world.clock.clone()),
            operations,
            folder: Some(Place::Simulated(disk)),
            topics: sim.world.state_topics(),
            feeds: feeds.into(),
            health: Arc::default(),
            processors,
            sink,
        }
    }

    async fn run(self, mode: Mode, stop: CancellationToken) -> Result<(), RunError> {
        let state = State::open(Arc::clone(&self.log), &self.name, &self.topics, None).await?;
        let letters =
            DeadLetters::open(Arc::clone(&self.log), self.operations.clone(), Arc::clone(&self.clock)).await?;
        let runtime = Runtime {
            process: self.name,
            log: self.log,
            state,
            clock: self.clock,
            operations: self.operations,
            letters,
            folder: self.folder,
            health: self.health,
            retry: Policy::default(),
            rejects: RejectLimit { count: 1_000, share: 1.0 },
            emit_at_once: 3,
        };
        let systems = vec![System { name: "ats".into(), feeds: self.feeds }];
        let processors: Vec<_> = self.processors.into_iter().map(|processor| ProcessorTask { processor }).collect();
        if mode == Mode::Once {
            match run_systems(systems, &runtime, mode, &stop).await {
                // The system was away for longer than a run may wait: what is in the log is delivered all the same.
                Ok(()) | Err(RunError::Source(_)) => {}
                Err(error) => return Err(error),
            }
            for processor in processors {
                processor.run(&runtime, mode, &stop).await?;
            }
            return self.sink.run(&runtime, mode, &stop).await;
        }
        let mut loops = JoinSet::new();
        let (at_work, token) = (runtime.clone(), stop.clone());
        loops.spawn(async move { run_systems(systems, &at_work, mode, &token).await });
        for processor in processors {
            let (at_work, token) = (runtime.clone(), stop.clone());
            loops.spawn(async move { processor.run(&at_work, mode, &token).await });
        }
        let sink = self.sink;
        loops.spawn(async move { sink.run(&runtime, mode, &stop).await });
        while let Some(ended) = loops.join_next().await {
            match ended {
                Ok(ended) => ended?,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        Ok(())
    }
}
