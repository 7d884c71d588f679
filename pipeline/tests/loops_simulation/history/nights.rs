//! What can happen while nothing runs: clocks, brokers, disks and targets have their nights.

use chrono::TimeDelta;
use pipeline::clock::Clock;
use pipeline::emitter::disk::SimulatedDisk;
use pipeline::log::{Log, Offset, TopicPartition};

use super::History;
use crate::common::sink::Target;
use crate::outside::{APPLICANTS, MILESTONES, REASONS};

impl History {
    /// What can happen while nothing runs.
    pub(super) async fn night(&mut self, round: u32) {
        self.change();
        if round == 0 {
            return;
        }
        let hours = *self.random.choice(&[0, 0, 0, 1, 12, 24 * 40, 24 * 100]).unwrap();
        self.step_clock(TimeDelta::hours(hours));
        if self.one_in(4) {
            let minutes = self.random.i64(-90..90);
            self.step_clock(TimeDelta::minutes(minutes));
        }
        let log = self.sim.world.log.clone();
        if self.one_in(3) {
            self.say("all topics are compacted");
            // As brokers do it: tombstones go after the time that the topic keeps them.
            for topic in schemas::catalogue().topics() {
                log.compact(&topic.name, topic.delete_retention);
            }
        }
        if self.one_in(6) {
            self.say("the groups are forgotten");
            for group in ["muster.tasks", "muster.reasons", "muster.applicants", "muster.register"] {
                log.forget_group(group);
            }
        }
        if self.one_in(8) {
            self.machines
                .iter_mut()
                .for_each(|machine| machine.disk = machine.disk.as_ref().map(|_| SimulatedDisk::default()));
        }
        if self.one_in(4) {
            self.say("the processor of reasons has a new version");
            self.sim.reasons.raise();
        }
        self.lose_topic().await;
        self.restore_target();
    }

    pub(super) fn step_clock(&self, by: TimeDelta) {
        self.say(&format!("the clock steps by {} s", by.num_seconds()));
        self.sim.world.clock.set(self.sim.world.clock.now() + by);
    }

    /// Somebody deletes a topic, or a leader loses its tail.
    async fn lose_topic(&mut self) {
        self.lost = self.one_in(6);
        if !self.lost {
            return;
        }
        let register = ["register.reason", "register.applicant", "register.milestone", "register.user"];
        let topics = [&[REASONS, MILESTONES, APPLICANTS][..], &register].concat();
        let topic = *self.random.choice(&topics).unwrap();
        let log = &self.sim.world.log;
        let ends = log.ends(topic).await.unwrap();
        if self.random.bool() {
            self.say(&format!("{topic} is deleted and made anew"));
            log.recreate_topic(topic, u32::try_from(ends.len()).unwrap());
        } else {
            let end = Offset(self.random.i64(0..=ends[0].end.0));
            log.truncate(&TopicPartition::new(topic, 0), end);
            self.say(&format!("{topic} ends at {end}, no longer at {}", ends[0].end));
        }
    }

    /// The target comes back as it was, or empty.
    fn restore_target(&mut self) {
        if self.one_in(5) {
            self.say("the target is backed up");
            self.backup = Some(self.sim.target.backup());
        } else if self.one_in(6) {
            self.say("the target is restored");
            let empty = Target::new(&self.sim.world.clock).backup();
            self.sim.target.restore(self.backup.as_ref().unwrap_or(&empty));
        }
    }
}
