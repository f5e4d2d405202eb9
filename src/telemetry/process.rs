//! What the process uses of its machine, under the names that Prometheus' client libraries share
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>). Only on Linux.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Reads the system at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(usage) = Usage::read() {
            let cpu = ConstCounter::new(usage.cpu_seconds);
            let described = encoder.encode_descriptor(
                "process_cpu",
                "User and system time",
                Some(&Unit::Seconds),
                cpu.metric_type(),
            )?;
            cpu.encode(described)?;
            for (name, help, unit, value) in [
                ("process_resident_memory", "Memory in use", Unit::Bytes, usage.resident_bytes),
                ("process_virtual_memory", "Address space in use", Unit::Bytes, usage.virtual_bytes),
                ("process_start_time", "Unix time of the start", Unit::Seconds, usage.started),
            ] {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, Some(&unit), gauge.metric_type())?)?;
            }
        }
        let open = fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as f64);
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        for (name, help, value) in [
            ("process_open_fds", "Open file descriptors", open),
            ("process_max_fds", "Limit of open file descriptors", most.map(|most| most as f64)),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    /// Unix seconds.
    started: f64,
}

impl Usage {
    fn read() -> Option<Usage> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let (ticks, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as f64);
        Usage::parse(&stat, &system, ticks, page)
    }

    /// From `/proc/self/stat` and `/proc/stat`; see proc_pid_stat(5).
    fn parse(stat: &str, system: &str, ticks: f64, page: f64) -> Option<Usage> {
        let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        // The name in parentheses may contain spaces. The field after it has number 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Usage {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            started: booted + field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_proc_pid_stat() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 1000 4096000 25 1844 1";
        let usage = Usage::parse(stat, "cpu 1\nbtime 1700000000\n", 100.0, 4096.0).unwrap();
        assert_eq!((usage.cpu_seconds, usage.started), (3.0, 1_700_000_010.0));
        assert_eq!((usage.virtual_bytes, usage.resident_bytes), (4_096_000.0, 102_400.0));
        assert!(Usage::parse("7 (a) S", "btime 1", 100.0, 4096.0).is_none());
    }
}
