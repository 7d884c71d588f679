//! Says which services the tests would use, without starting any.

use crate::engine::Engine;
use crate::given::{self, Variable};
use crate::maven::Maven;
use crate::missing::Missing;
use crate::postgres::Binaries;

/// What the tests would do about one service.
#[derive(Debug)]
pub struct Outlook {
    /// The service, in words.
    pub service: &'static str,
    /// Where it would come from, or what is missing and how to get it.
    pub found: Result<String, String>,
}

/// The outlook for each service. Programs are looked for; nothing is fetched or started.
pub async fn survey() -> Vec<Outlook> {
    let engine = Engine::find().await;
    let java = || {
        let maven = Maven::find()?;
        Ok(format!("packages from Maven, run by {}", maven.java.display()))
    };
    let postgres = || {
        let binaries = Binaries::find()?;
        Ok(format!("binaries in {}", binaries.folder().display()))
    };
    vec![
        Outlook { service: "Kafka", found: look(Variable::Kafka, engine.as_ref(), java) },
        Outlook { service: "schema registry", found: look(Variable::Registry, engine.as_ref(), java) },
        Outlook { service: "PostgreSQL", found: look(Variable::Postgres, engine.as_ref(), postgres) },
    ]
}

fn look(
    variable: Variable,
    engine: Option<&Engine>,
    packages: impl FnOnce() -> Result<String, Missing>,
) -> Result<String, String> {
    match given::given(variable) {
        Ok(Some(_)) => return Ok(format!("given by {}", variable.name())),
        Ok(None) => {}
        Err(err) => return Err(format!("{err:#}")),
    }
    if let Some(engine) = engine {
        return Ok(format!("a container, by the engine at {}", engine.socket().display()));
    }
    packages().map_err(|Missing(why)| format!("{why}; or set {}", variable.name()))
}
