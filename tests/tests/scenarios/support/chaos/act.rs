//! Does what a round says.

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::super::until;
use super::plan::{Fault, Round, Then};
use super::world::World;

impl World {
    /// Plays a round; returns how many processes were killed.
    pub async fn play(&mut self, round: &Round) -> Result<u32> {
        // The moments of a round are its own choice; what is waited for are conditions.
        sleep(round.after).await;
        let fault = self.begin(&round.fault).await?;
        let mut killed = match &fault {
            Fault::Kill(which) => u32::try_from(which.len())?,
            _ => 0,
        };
        let mut left = round.lasts;
        if let Some((process, at)) = round.also_killed {
            sleep(at).await;
            left = left.saturating_sub(at);
            self.kill(process).await?;
            self.start(process)?;
            killed += 1;
        }
        sleep(left).await;
        self.finish(&fault).await?;
        match round.then {
            Then::GoOn => {}
            Then::Answers => self.all_answer().await?,
            Then::Progress => self.gets_on().await?,
        }
        self.all_are_alive()?;
        Ok(killed)
    }

    /// Begins the fault, and says what was found to be meant: which broker leads.
    async fn begin(&mut self, fault: &Fault) -> Result<Fault> {
        match fault {
            Fault::Kill(which) => {
                for process in which {
                    self.kill(*process).await?;
                }
            }
            Fault::Stall(process) => self.signal(*process, "STOP").await?,
            Fault::Broker(broker) => self.brokers.kill(*broker).await?,
            Fault::Leader(partition) => {
                let mut leader = None;
                until("a leader is known", || {
                    let found = self.brokers.leader("ats.applicant", *partition);
                    let known = found.map(|broker| leader = Some(broker));
                    std::future::ready(known)
                })
                .await?;
                let broker = leader.context("a leader")?;
                self.brokers.kill(broker).await?;
                return Ok(Fault::Broker(broker));
            }
            Fault::Database => self.database.kill().await?,
            Fault::Registry => self.registry()?.kill().await?,
            Fault::Network(way, toxic) => {
                self.network.as_ref().context("there is no proxy")?.poison(*way, *toxic).await?;
            }
        }
        Ok(fault.clone())
    }

    async fn finish(&mut self, fault: &Fault) -> Result<()> {
        match fault {
            Fault::Kill(which) => which.iter().try_for_each(|process| self.start(*process)),
            Fault::Stall(process) => self.signal(*process, "CONT").await,
            Fault::Broker(broker) => self.brokers.restart(*broker).await,
            Fault::Leader(_) => Ok(()),
            Fault::Database => self.database.restart().await,
            Fault::Registry => self.registry()?.restart().await,
            Fault::Network(way, _) => self.network.as_ref().context("there is no proxy")?.heal(*way).await,
        }
    }

    async fn all_answer(&mut self) -> Result<()> {
        self.within("every process answers", async |world: &Self| {
            for (number, site) in world.sites.iter().enumerate() {
                let (code, _) = site.get("/health/live").await?;
                ensure!(code == 200, "process {number}: {code}");
            }
            Ok(())
        })
        .await
    }

    /// Somebody who is entered now comes into the register.
    async fn gets_on(&mut self) -> Result<()> {
        let newcomer = self.ats.add_applicant();
        let register = self.register();
        self.within("a newcomer is in the register", async |_: &Self| {
            ensure!(register.has("ien_applicants", &newcomer).await?, "not yet");
            Ok(())
        })
        .await
    }
}
