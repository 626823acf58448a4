//! What becomes of the cost as work grows.

use std::path::Path;

use crate::{
    Effort,
    grid::{Grid, Kind, short, size},
    load::{Load, Workload},
    peers::{BROADCASTERS, SERVERS},
    plot,
    server::Server,
};

/// The limits, ours, and of each family of peers the one that others are compared with most.
const ROWS: [&str; 6] = [
    "limit-tokio",
    "limit-smol",
    "coro-websocket",
    "coro-websocket on tokio",
    "fastwebsockets",
    "tokio-tungstenite, `forward`",
];

pub(crate) fn run(effort: Effort, plots: Option<&Path>) {
    println!("\n## As work grows\n\nCPU time of the server in ns.");
    let draw = |grid: &Grid, file: &str, title: &str, horizontal: &str, xs: &[usize]| {
        let Some(folder) = plots else { return };
        let lines: Vec<_> = grid
            .rows
            .iter()
            .map(|(name, _)| {
                let points = xs
                    .iter()
                    .zip(&grid.columns)
                    .filter_map(|(x, column)| Some((*x as f64, grid.estimate(name, column)?.median)));
                (name.replace('`', ""), points.collect())
            })
            .collect();
        plot::write(&folder.join(file), title, [horizontal, "CPU time, ns"], &lines);
    };

    let sizes = effort.growth(&[16, 256, 4 << 10, 64 << 10, 1 << 20, 16 << 20]);
    let workloads: Vec<_> =
        sizes.iter().map(|len| Workload { connections: 1, len: *len, in_flight: 1 }).collect();
    let columns = sizes.iter().map(|len| size(*len)).collect();
    let grid = echoes(effort, &workloads, columns);
    grid.print("Per message, one connection, by payload", short);
    draw(&grid, "payload.svg", "An echo, by payload", "bytes", sizes);

    let counts = effort.growth(&[1, 10, 100, 1000, 5000, 10_000]);
    let workloads: Vec<_> =
        counts.iter().map(|count| Workload { connections: *count, len: 125, in_flight: 1 }).collect();
    let columns: Vec<_> = counts.iter().map(usize::to_string).collect();
    let grid = echoes(effort, &workloads, columns.clone());
    grid.print("Per message of 125 B, by connections that speak", short);
    draw(&grid, "connections.svg", "An echo of 125 B, by connections", "connections", counts);

    let grid = broadcasts(effort, counts, columns);
    grid.print("Per subscriber that gets 125 B, by subscribers", short);
    draw(&grid, "subscribers.svg", "One message of 125 B to all", "subscribers", counts);
}

/// Each server has its turn in each round, and is connected to anew: not all of them at once have descriptors for their
/// connections.
fn echoes(effort: Effort, workloads: &[Workload], columns: Vec<String>) -> Grid {
    let chosen = SERVERS.iter().filter(|(name, ..)| ROWS.contains(name));
    let rows: Vec<(&'static str, Kind)> = chosen.map(|(name, kind, _)| (*name, *kind)).collect();
    let servers: Vec<_> = rows.iter().map(|(name, _)| Server::start(name)).collect();
    let mut grid = Grid::new(rows, columns);
    for (column, workload) in workloads.iter().enumerate() {
        for _ in 0..effort.growth_rounds() {
            for (row, server) in servers.iter().enumerate() {
                let mut load = Load::connect(server.address, *workload);
                load.run(effort.echo_round() / 4);
                let before = server.cpu_time();
                let messages = load.run(effort.echo_round());
                let time = server.cpu_time() - before;
                grid.add(row, column, time.as_nanos() as f64 / messages as f64);
            }
        }
    }
    grid
}

/// A server for each number of subscribers: those that left may still be on its list.
fn broadcasts(effort: Effort, counts: &[usize], columns: Vec<String>) -> Grid {
    let rows: Vec<_> = BROADCASTERS.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    let mut grid = Grid::new(rows.clone(), columns);
    for (column, connections) in counts.iter().enumerate() {
        for _ in 0..effort.growth_rounds() {
            for (row, (name, _)) in rows.iter().enumerate() {
                let server = Server::start(name);
                let workload = Workload { connections: *connections, len: 125, in_flight: 1 };
                let mut load = Load::connect(server.address, workload);
                load.run_broadcasts(effort.echo_round() / 4);
                let before = server.cpu_time();
                let deliveries = load.run_broadcasts(effort.echo_round());
                let time = server.cpu_time() - before;
                grid.add(row, column, time.as_nanos() as f64 / deliveries as f64);
            }
        }
    }
    grid
}
