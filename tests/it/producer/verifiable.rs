//! The verifiable producer says the lines that Kafka's own tests read, and what it says is what Java finds. Run
//! within the test, as the program would run it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use weir_kafka_harness::proxy::{End, Fault, Rule};

use super::{LONG, connect, create_topic, proxied, read_back, run as run_test, values};
use crate::broker::{VERSIONS, shared};

#[path = "../../../examples/verifiable_producer/flags.rs"]
mod flags;
#[path = "../../../examples/verifiable_producer/properties.rs"]
mod properties;
#[path = "../../../examples/verifiable_producer/run.rs"]
mod run;

/// Standard output.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    fn named(&self, name: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["name"] == name).collect()
    }
}

fn job(line: &str) -> flags::Job {
    flags::Job::read(line.split(' ').map(str::to_owned)).unwrap()
}

/// Each line has its fields, and Java finds each record where its line says.
#[test]
fn its_lines_are_what_java_reads() {
    for version in VERSIONS {
        let Some(broker) = shared(version) else { continue };
        run_test(async {
            let kafka = connect(broker.bootstrap).await;
            create_topic(&kafka, "verifiable", 3, &[]).await;
            let line = format!(
                "--bootstrap-server {} --topic verifiable --max-messages 500 --repeating-keys 7 \
                 --value-prefix 4 --throughput=2000 --acks -1 --message-create-time 1700000000000",
                broker.bootstrap
            );
            let out = Output::default();
            run::run(job(&line), out.clone(), std::future::pending()).await.unwrap();
            let lines = out.lines();
            assert!(lines.iter().all(|line| line["timestamp"].is_i64()));
            let names: Vec<&str> = lines.iter().filter_map(|line| line["name"].as_str()).collect();
            let wanted = [&["startup_complete"][..], &["producer_send_success"; 500]].concat();
            assert_eq!(names, [&wanted[..], &["shutdown_complete", "tool_data"]].concat());
            let seen = read_back(broker.bootstrap, "verifiable").await;
            assert_eq!(seen.len(), 500);
            for (n, line) in out.named("producer_send_success").iter().enumerate() {
                assert_eq!(line["topic"], "verifiable");
                assert_eq!(line["value"], format!("4.{n}"));
                assert_eq!(line["key"], (n % 7).to_string());
                let here = |record: &&crate::broker::java::JavaRecord| {
                    line["partition"] == record.partition && line["offset"] == record.offset
                };
                let record = seen.iter().find(here).expect("it is where the line says");
                assert_eq!(record.value.as_deref(), line["value"].as_str().map(str::as_bytes));
                assert_eq!(record.key.as_deref(), line["key"].as_str().map(str::as_bytes));
                assert!((1_700_000_000_000..1_700_000_600_000).contains(&record.timestamp));
            }
            let data = &lines[502];
            assert_eq!((&data["sent"], &data["acked"]), (&500.into(), &500.into()));
            assert_eq!(data["target_throughput"], 2000);
            let rate = data["avg_throughput"].as_f64().unwrap();
            assert!(rate > 1.0 && rate <= 2100.0, "{rate}");
        });
    }
}

/// Without a number of records it goes on until it is told to end; then what was sent is told of, and no more.
#[test]
fn it_ends_in_order_when_it_is_told_to() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run_test(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "verifiable-ended", 1, &[]).await;
        let line =
            format!("--bootstrap-server {} --topic verifiable-ended --throughput 500", broker.bootstrap);
        let out = Output::default();
        let heard = out.clone();
        let ended = async move {
            while heard.named("producer_send_success").len() < 100 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let all = run::run(job(&line), out.clone(), ended);
        tokio::time::timeout(LONG, all).await.expect("it ends").unwrap();
        let said: Vec<String> = (out.named("producer_send_success").iter())
            .map(|line| line["value"].as_str().unwrap().to_owned())
            .collect();
        assert!(said.len() >= 100);
        assert_eq!(values(&read_back(broker.bootstrap, "verifiable-ended").await), said);
        assert_eq!(out.named("tool_data")[0]["sent"], said.len());
        assert_eq!(out.named("tool_data")[0]["target_throughput"], 500);
        assert_eq!(out.named("shutdown_complete").len(), 1);
        let keys = out.named("producer_send_success");
        assert!(keys.iter().all(|line| line["key"].is_null()), "no keys were asked for");
    });
}

/// Settings come out of a file; what fails is said with its reason, and counted.
#[test]
fn what_fails_is_said() {
    let Some(proxied) = proxied() else { return };
    run_test(async {
        let kafka = connect(proxied.at()).await;
        create_topic(&kafka, "verifiable-failed", 1, &[]).await;
        let folder = weir_kafka_harness::run_dir::new_dir("verifiable").unwrap();
        let file = folder.join("producer.properties");
        let text = "# quick\ndelivery.timeout.ms=1500\nrequest.timeout.ms: 1000\nsomething.else=1\n\
                    compression.type = lz4\nenable.idem\\\n  potence=true\n";
        std::fs::write(&file, text).unwrap();
        let line = format!(
            "--bootstrap-server {} --topic verifiable-failed --max-messages 60 --throughput 20 --producer.config {}",
            proxied.at(),
            file.display()
        );
        let job = job(&line);
        let setting =
            |name: &str| job.settings.iter().rev().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!(setting("enable.idempotence"), "true");
        assert_eq!(setting("compression.type"), "lz4");
        let out = Output::default();
        let heard = out.clone();
        let breakdown = async {
            while heard.named("producer_send_success").len() < 5 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            proxied.proxy().add(Rule::new(Fault::Refuse)).unwrap();
            proxied.proxy().cut_links(End::Reset);
            std::future::pending::<()>().await;
        };
        let all = run::run(job.clone(), out.clone(), breakdown);
        tokio::time::timeout(LONG, all).await.expect("it ends").unwrap();
        proxied.proxy().clear();
        let failed = out.named("producer_send_error");
        assert!(!failed.is_empty());
        for line in &failed {
            assert_eq!(line["exception"], "TimeoutException", "{line}");
            assert!(line["message"].as_str().is_some_and(|words| !words.is_empty()), "{line}");
        }
        let data = &out.named("tool_data")[0];
        assert_eq!(data["sent"], 60);
        assert_eq!(data["acked"], 60 - failed.len());
        std::fs::remove_dir_all(folder).unwrap();
    });
}

#[test]
fn wrong_flags_are_named() {
    let wrong = |line: &str| flags::Job::read(line.split(' ').map(str::to_owned)).unwrap_err();
    assert!(wrong("--topic t").contains("--bootstrap-server"));
    assert!(wrong("--topic").contains("needs a value"));
    assert!(wrong("--topics t").contains("--topics is not known"));
    assert!(wrong("--max-messages many").contains("no whole number"));
    assert!(wrong("--producer.config nowhere.properties").contains("nowhere.properties"));
    assert!(flags::USAGE.contains("--value-prefix"));
}
