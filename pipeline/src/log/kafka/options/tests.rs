//! What librdkafka is told, and what is refused before.

use super::*;

#[test]
fn passwords_are_never_printed() {
    let mut options = KafkaOptions::plaintext("broker:9092");
    options.security = Security::Sasl {
        mechanism: Mechanism::ScramSha512,
        username: "muster".to_owned(),
        password: Password::new("open sesame"),
        tls: Some(Tls::default()),
    };
    options.extra.insert("ssl.key.password".to_owned(), "abracadabra".to_owned());
    let printed = format!("{options:?}");
    assert!(!printed.contains("sesame") && !printed.contains("abracadabra"), "{printed}");
}

#[test]
fn settings_that_durability_rests_on_are_refused() {
    let mut options = KafkaOptions::plaintext("broker:9092");
    options.extra.insert("acks".to_owned(), "1".to_owned());
    assert!(matches!(options.base(), Err(LogError::Refused { .. })));
}

#[test]
fn read_ahead_is_shared_by_the_partitions() {
    let options = KafkaOptions::plaintext("broker:9092");
    let Ok(config) = options.consumer("any", 16) else { panic!("refused") };
    assert_eq!(config.get("queued.max.messages.kbytes"), Some("512"));
}

#[cfg(feature = "kafka-tls")]
#[test]
fn tls_and_sasl_are_told_to_librdkafka() {
    let tls = Tls {
        ca: Some("/etc/muster/ca.pem".into()),
        certificate: Some("/etc/muster/muster.pem".into()),
        key: Some("/etc/muster/muster.key".into()),
    };
    let mut options = KafkaOptions::plaintext("broker:9093");
    let told = |options: &KafkaOptions, wanted: &[(&str, Option<&str>)]| {
        for config in [options.producer(), options.tools(), options.consumer("any", 1), options.member("any", 1)] {
            let Ok(config) = config else { panic!("refused") };
            for (name, value) in wanted {
                assert!(config.get(name) == *value, "{name}");
            }
            // librdkafka knows the names, and was built with what they need; the files aren't there.
            if config.get("ssl.ca.location").is_none() {
                assert!(config.create::<rdkafka::consumer::BaseConsumer>().is_ok());
            }
        }
    };

    options.security = Security::Tls(tls.clone());
    told(
        &options,
        &[
            ("security.protocol", Some("ssl")),
            ("ssl.ca.location", Some("/etc/muster/ca.pem")),
            ("ssl.certificate.location", Some("/etc/muster/muster.pem")),
            ("ssl.key.location", Some("/etc/muster/muster.key")),
            ("sasl.mechanism", None),
        ],
    );

    let mechanisms = [
        (Mechanism::ScramSha256, "SCRAM-SHA-256"),
        (Mechanism::ScramSha512, "SCRAM-SHA-512"),
        (Mechanism::Plain, "PLAIN"),
    ];
    for (mechanism, name) in mechanisms {
        for (tls, protocol) in [(Some(Tls::default()), "sasl_ssl"), (None, "sasl_plaintext")] {
            let (username, password) = ("muster".to_owned(), Password::new("open sesame"));
            options.security = Security::Sasl { mechanism, username, password, tls };
            told(
                &options,
                &[
                    ("security.protocol", Some(protocol)),
                    ("sasl.mechanism", Some(name)),
                    ("sasl.username", Some("muster")),
                    ("sasl.password", Some("open sesame")),
                    ("ssl.ca.location", None),
                    ("enable.ssl.certificate.verification", None),
                ],
            );
        }
    }
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn tls_needs_a_build_with_it() {
    let mut options = KafkaOptions::plaintext("broker:9093");
    options.security = Security::Tls(Tls::default());
    let Err(LogError::Refused { hint, .. }) = options.base() else { panic!("taken") };
    assert!(hint.contains("kafka-tls"), "{hint}");
}
