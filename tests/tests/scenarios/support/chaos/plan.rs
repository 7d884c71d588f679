//! What happens in each round: a pure function of the round's seed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use services::Toxic;

/// A process that isn't heard of for so long loses its partitions. Shorter than that, a busy machine is taken for a dead
/// process all the time, and nobody gets anywhere.
pub const SESSION: Duration = Duration::from_secs(4);

/// A run of many rounds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many rounds.
    pub rounds: u32,
    /// What every choice follows from.
    pub seed: u64,
    /// How many processes share the work.
    pub processes: usize,
    /// One or three.
    pub brokers: usize,
    /// How many applicants there are at first.
    pub applicants: usize,
    /// What may happen.
    pub kinds: Vec<Kind>,
    /// After so many rounds the changes stop and the register is compared; at the end in any case.
    pub compare_every: u32,
    /// Every round is this one.
    pub again: Option<u64>,
    /// Where the logs of a run that fails are kept.
    pub logs: Option<PathBuf>,
}

impl Plan {
    /// The arguments that lead to the same choices.
    pub fn arguments(&self) -> String {
        let kinds: Vec<String> = self.kinds.iter().map(|kind| kind.name().to_owned()).collect();
        format!(
            "--rounds {} --seed {} --processes {} --brokers {} --applicants {} --kinds {} --compare-every {}",
            self.rounds,
            self.seed,
            self.processes,
            self.brokers,
            self.applicants,
            kinds.join(","),
            self.compare_every
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, seed, processes, brokers, applicants, .. } = self;
        write!(f, "{rounds} rounds, seed {seed}: {processes} processes, {brokers} broker(s), {applicants} applicants")
    }
}

/// What a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL of one or two processes.
    Kill,
    /// SIGSTOP of a process, as a rule for longer than its session, then SIGCONT.
    Stall,
    /// kill -9 of a broker.
    Broker,
    /// kill -9 of the broker that leads a partition; with three brokers.
    Leader,
    /// PostgreSQL ends at once.
    Database,
    /// kill -9 of the schema registry.
    Registry,
    /// A fault between some processes and Kafka, PostgreSQL or the recruiting system.
    Network,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Stall, Self::Broker, Self::Leader, Self::Database, Self::Registry, Self::Network];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stall => "stall",
            Self::Broker => "broker",
            Self::Leader => "leader",
            Self::Database => "database",
            Self::Registry => "registry",
            Self::Network => "network",
        }
    }

    /// How often it is chosen, compared with the others.
    fn weight(self) -> u32 {
        match self {
            Self::Kill | Self::Network => 4,
            Self::Stall | Self::Leader => 3,
            Self::Broker | Self::Database => 2,
            Self::Registry => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A way that a proxy stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To Kafka, of all processes but the last.
    Kafka,
    /// To PostgreSQL, of all processes but the last.
    Database,
    /// To the recruiting system, of all processes.
    System,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These processes are killed.
    Kill(Vec<usize>),
    /// This process stands still.
    Stall(usize),
    /// This broker is killed.
    Broker(usize),
    /// The broker that leads this partition is killed.
    Leader(i32),
    /// PostgreSQL ends at once.
    Database,
    /// The registry is killed.
    Registry,
    /// The network does this.
    Network(Way, Toxic),
}

impl Fault {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Kill(_) => Kind::Kill,
            Self::Stall(_) => Kind::Stall,
            Self::Broker(_) => Kind::Broker,
            Self::Leader(_) => Kind::Leader,
            Self::Database => Kind::Database,
            Self::Registry => Kind::Registry,
            Self::Network(..) => Kind::Network,
        }
    }
}

/// When a round is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// When the fault is.
    GoOn,
    /// When every process answers.
    Answers,
    /// When somebody who was entered after the fault is in the register.
    Progress,
}

/// What may be chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// So many processes.
    pub processes: usize,
    /// So many brokers.
    pub brokers: usize,
}

/// One round.
#[derive(Clone, Debug)]
pub struct Round {
    /// What it follows from.
    pub seed: u64,
    /// The fault's moment, from the round's beginning.
    pub after: Duration,
    /// The fault.
    pub fault: Fault,
    /// For how long.
    pub lasts: Duration,
    /// A process is killed besides, so long into the fault, and started again at once.
    pub also_killed: Option<(usize, Duration)>,
    /// What is waited for afterwards.
    pub then: Then,
}

impl Round {
    /// The round of this seed.
    pub fn choose(seed: u64, choice: &Choice) -> Self {
        let mut rng = Rng::with_seed(seed);
        let after = Duration::from_millis(rng.u64(0..1_500));
        let fault = fault(&mut rng, choice);
        let lasts = match &fault {
            // Started again at once, or only when others may have taken over.
            Fault::Kill(_) if rng.u32(0..4) > 0 => 0,
            Fault::Kill(_) => rng.u64(500..6_000),
            Fault::Stall(_) if rng.u32(0..5) == 0 => rng.u64(200..3_500),
            Fault::Stall(_) => rng.u64(4_500..8_500),
            Fault::Network(..) => rng.u64(300..5_000),
            Fault::Broker(_) | Fault::Leader(_) | Fault::Database | Fault::Registry => rng.u64(0..3_000),
        };
        let busy = matches!(fault, Fault::Kill(_) | Fault::Stall(_));
        let also_killed = (!busy && rng.u32(0..4) == 0)
            .then(|| (rng.usize(..choice.processes), Duration::from_millis(rng.u64(0..=lasts))));
        let then = [Then::GoOn, Then::GoOn, Then::Answers, Then::Progress][rng.usize(..4)];
        Self { seed, after, fault, lasts: Duration::from_millis(lasts), also_killed, then }
    }
}

fn fault(rng: &mut Rng, choice: &Choice) -> Fault {
    let all: u32 = choice.kinds.iter().map(|kind| kind.weight()).sum();
    let mut at = rng.u32(0..all.max(1));
    let mut chosen = Kind::Kill;
    for kind in &choice.kinds {
        if at < kind.weight() {
            chosen = *kind;
            break;
        }
        at -= kind.weight();
    }
    match chosen {
        Kind::Kill => {
            let first = rng.usize(..choice.processes);
            let two = choice.processes > 1 && rng.u32(0..3) == 0;
            let second = (first + 1 + rng.usize(..choice.processes.saturating_sub(1).max(1))) % choice.processes;
            Fault::Kill(if two { vec![first, second] } else { vec![first] })
        }
        Kind::Stall => Fault::Stall(rng.usize(..choice.processes)),
        Kind::Broker => Fault::Broker(rng.usize(..choice.brokers)),
        Kind::Leader => Fault::Leader(rng.i32(0..12)),
        Kind::Database => Fault::Database,
        Kind::Registry => Fault::Registry,
        Kind::Network => {
            let way = [Way::Kafka, Way::Database, Way::Database, Way::System][rng.usize(..4)];
            Fault::Network(way, toxic(rng))
        }
    }
}

fn toxic(rng: &mut Rng) -> Toxic {
    match rng.u32(0..6) {
        0 => Toxic::Latency { ms: rng.u32(20..800), jitter: rng.u32(0..200) },
        1 => Toxic::Reset { after_ms: rng.u32(0..300) },
        // Few bytes are the answers to some statements, a COMMIT's among them; many are a page or a batch.
        2 => Toxic::Cut { bytes: rng.u32(1..400) },
        3 => Toxic::Cut { bytes: rng.u32(400..40_000) },
        4 => Toxic::Mute { ms: if rng.bool() { 0 } else { rng.u32(1..1_000) } },
        _ => Toxic::Down,
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |processes: &[usize]| processes.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ");
        match &self.fault {
            Fault::Kill(which) => write!(f, "kill process {}", named(which))?,
            Fault::Stall(which) => write!(f, "stall process {which}")?,
            Fault::Broker(broker) => write!(f, "kill broker {broker}")?,
            Fault::Leader(partition) => write!(f, "kill the leader of partition {partition}")?,
            Fault::Database => f.write_str("kill the database")?,
            Fault::Registry => f.write_str("kill the registry")?,
            Fault::Network(way, toxic) => write!(f, "network to {way:?}: {toxic:?}")?,
        }
        write!(f, " at {} ms for {} ms", self.after.as_millis(), self.lasts.as_millis())?;
        if let Some((process, at)) = self.also_killed {
            write!(f, ", and process {process} {} ms later", at.as_millis())?;
        }
        let then = match self.then {
            Then::GoOn => "",
            Then::Answers => ", then all answer",
            Then::Progress => ", then progress",
        };
        f.write_str(then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(kinds: &[Kind]) -> Choice {
        Choice { kinds: kinds.to_vec(), processes: 3, brokers: 3 }
    }

    #[test]
    fn the_same_seed_is_the_same_round() {
        for seed in 0..100 {
            let (one, other) = (Round::choose(seed, &choice(&Kind::ALL)), Round::choose(seed, &choice(&Kind::ALL)));
            assert_eq!(one.to_string(), other.to_string());
        }
    }

    #[test]
    fn every_kind_comes_up_and_no_other() {
        let two = [Kind::Stall, Kind::Leader];
        for kinds in [&Kind::ALL[..], &two] {
            let mut seen: Vec<Kind> = (0..300).map(|seed| Round::choose(seed, &choice(kinds)).fault.kind()).collect();
            seen.sort();
            seen.dedup();
            assert_eq!(seen, kinds);
        }
    }

    #[test]
    fn two_that_are_killed_are_two() {
        let rounds = (0..300).map(|seed| Round::choose(seed, &choice(&[Kind::Kill])));
        let pairs: Vec<Vec<usize>> = rounds
            .filter_map(|round| match round.fault {
                Fault::Kill(which) if which.len() == 2 => Some(which),
                _ => None,
            })
            .collect();
        assert!(pairs.len() > 50 && pairs.iter().all(|pair| pair[0] != pair[1]));
    }
}
