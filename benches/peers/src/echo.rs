//! Echo servers over loopback: CPU time and system calls for each message.

use crate::{
    Effort,
    grid::{Grid, short},
    load::{Load, Workload},
    peers::SERVERS,
    server::Server,
};

pub(crate) const WORKLOADS: [Workload; 6] = [
    Workload { connections: 1, len: 16, in_flight: 1 },
    Workload { connections: 1, len: 16, in_flight: 64 },
    Workload { connections: 64, len: 125, in_flight: 1 },
    Workload { connections: 500, len: 1 << 10, in_flight: 1 },
    Workload { connections: 8, len: 16 << 10, in_flight: 1 },
    Workload { connections: 2, len: 1 << 20, in_flight: 1 },
];

/// CPU time, and system calls.
pub(crate) fn run(effort: Effort) -> [Grid; 2] {
    println!(
        "\n## Echo over loopback\n\nEach server on core 0, one load generator on core 1; medians of {} rounds of {} ms.",
        effort.echo_rounds(),
        effort.echo_round().as_millis()
    );
    let rows: Vec<_> = SERVERS.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    let columns: Vec<_> = WORKLOADS.iter().map(Workload::to_string).collect();
    let mut times = Grid::new(rows.clone(), columns.clone());
    let mut calls = Grid::new(rows.clone(), columns);
    let servers: Vec<_> = rows.iter().map(|(name, _)| Server::start(name)).collect();
    for (column, workload) in WORKLOADS.into_iter().enumerate() {
        let mut loads: Vec<_> =
            servers.iter().map(|server| Load::connect(server.address, workload)).collect();
        measure(&servers, &mut loads, effort, |row, time| times.add(row, column, time));
        for (row, (server, load)) in servers.iter().zip(&mut loads).enumerate() {
            let mut messages = 0;
            let count = server.system_calls(|| messages = load.run(effort.echo_round()));
            if let Some(count) = count {
                calls.add(row, column, count as f64 / messages as f64);
            }
        }
    }
    times.print("CPU time of the server per message, ns", short);
    calls.print("System calls per message", |count| format!("{count:.3}"));
    [times, calls]
}

/// In each round every server has its turn. The result is in ns of CPU time per message.
pub(crate) fn measure(
    servers: &[Server],
    loads: &mut [Load],
    effort: Effort,
    mut result: impl FnMut(usize, f64),
) {
    for load in &mut *loads {
        load.run(effort.echo_round() / 4);
    }
    for round in 0..effort.echo_rounds() {
        for turn in 0..servers.len() {
            let row = (turn + round) % servers.len();
            let before = servers[row].cpu_time();
            let messages = loads[row].run(effort.echo_round());
            let time = servers[row].cpu_time() - before;
            result(row, time.as_nanos() as f64 / messages as f64);
        }
    }
}
