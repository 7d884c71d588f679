//! Services that somebody else runs, named by environment variables: all of them or none.

use anyhow::{Context, Result, bail};
use reqwest::Url;

use crate::ports;

/// A service's variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    /// Bootstrap servers, `host:port[,host:port]`.
    Kafka,
    /// Address with base path.
    Registry,
    /// Address of a maintenance database, as somebody who may create databases.
    Postgres,
}

impl Variable {
    const ALL: [Self; 3] = [Self::Kafka, Self::Registry, Self::Postgres];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "MUSTER_TEST_KAFKA",
            Self::Registry => "MUSTER_TEST_REGISTRY",
            Self::Postgres => "MUSTER_TEST_POSTGRES",
        }
    }
}

/// The variable's value, or `None` when no service is given. An error when only some are, or when one isn't usable:
/// whoever sets one means to test against their own services, not against a mixture.
pub(crate) fn given(wanted: Variable) -> Result<Option<String>> {
    choose(wanted, |variable| std::env::var(variable.name()).ok())
}

fn choose(wanted: Variable, read: impl Fn(Variable) -> Option<String>) -> Result<Option<String>> {
    let (set, unset): (Vec<_>, Vec<_>) = Variable::ALL.into_iter().partition(|variable| read(*variable).is_some());
    if let (Some(one), Some(other)) = (set.first(), unset.first()) {
        bail!("{} is set but {} isn't: set all three or none", one.name(), other.name());
    }
    let Some(value) = read(wanted) else { return Ok(None) };
    hosts(wanted, &value)?;
    Ok(Some(value))
}

/// Says early, and with the variable's name, that the service doesn't listen.
pub(crate) async fn check(variable: Variable, value: &str) -> Result<()> {
    let hosts = hosts(variable, value)?;
    let mut outcome = Ok(());
    for host in hosts {
        outcome = ports::reachable(&host).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome.with_context(|| format!("{} points at a service that doesn't listen", variable.name()))
}

/// The addresses the value names, each as `host:port`.
fn hosts(variable: Variable, value: &str) -> Result<Vec<String>> {
    let name = variable.name();
    if variable == Variable::Kafka {
        let hosts: Vec<String> = value.split(',').map(|host| host.trim().to_owned()).collect();
        let is_host = |host: &String| {
            host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
        };
        if !hosts.iter().all(is_host) {
            bail!("{name} must be host:port, or several with commas between");
        }
        return Ok(hosts);
    }
    // The value isn't repeated in errors: it may hold a password.
    let url = Url::parse(value).with_context(|| format!("{name} must be a URL"))?;
    let (schemes, default_port): (&[&str], u16) = match variable {
        Variable::Postgres => (&["postgres", "postgresql"], 5432),
        _ => (&["http", "https"], 80),
    };
    if !schemes.contains(&url.scheme()) {
        bail!("{name} must be a URL that begins with {}://", schemes[0]);
    }
    let host = url.host_str().with_context(|| format!("{name} must name a host"))?;
    Ok(vec![format!("{host}:{}", url.port_or_known_default().unwrap_or(default_port))])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn with(variables: &[(Variable, &str)], wanted: Variable) -> Result<Option<String>> {
        let read =
            |variable| variables.iter().find(|(name, _)| *name == variable).map(|(_, value)| (*value).to_owned());
        choose(wanted, read)
    }

    #[test]
    fn nothing_set_is_nothing_given() {
        assert_eq!(with(&[], Variable::Kafka).unwrap(), None);
    }

    #[test]
    fn half_set_is_an_error_for_every_service() {
        let half = [(Variable::Kafka, "broker:9092"), (Variable::Postgres, "postgres://muster@database/postgres")];
        for wanted in Variable::ALL {
            let said = with(&half, wanted).unwrap_err().to_string();
            assert_eq!(said, "MUSTER_TEST_KAFKA is set but MUSTER_TEST_REGISTRY isn't: set all three or none");
        }
    }

    #[test]
    fn set_but_empty_is_an_error() {
        let empty = [(Variable::Kafka, ""), (Variable::Registry, ""), (Variable::Postgres, "")];
        for wanted in Variable::ALL {
            assert!(with(&empty, wanted).is_err());
        }
    }

    #[test]
    fn all_set_are_given_with_their_usual_ports() {
        let all = [
            (Variable::Kafka, "one:9092,two:9092"),
            (Variable::Registry, "https://registry/apis/ccompat/v7"),
            (Variable::Postgres, "postgres://muster:secret@database/postgres"),
        ];
        let hosts: Vec<Vec<String>> = all
            .iter()
            .map(|(variable, _)| hosts(*variable, &with(&all, *variable).unwrap().unwrap()).unwrap())
            .collect();
        assert_eq!(hosts, [vec!["one:9092", "two:9092"], vec!["registry:443"], vec!["database:5432"]]);
    }

    #[test]
    fn an_unusable_value_is_not_repeated() {
        let all =
            [(Variable::Kafka, "a:1"), (Variable::Registry, "http://b"), (Variable::Postgres, "mysql://m:secret@c/d")];
        let said = format!("{:#}", with(&all, Variable::Postgres).unwrap_err());
        assert_eq!(said, "MUSTER_TEST_POSTGRES must be a URL that begins with postgres://");
    }
}
