//! Three charts under each other, with the same time.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use tenantry::RegistryStatus;

use super::life::Life;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

struct Line {
    name: &'static str,
    color: RGBColor,
    value: fn(&RegistryStatus) -> usize,
}

const BLUE: RGBColor = RGBColor(31, 119, 180);
const ORANGE: RGBColor = RGBColor(255, 127, 14);
const GREEN: RGBColor = RGBColor(44, 160, 44);
const RED: RGBColor = RGBColor(214, 39, 40);
const GREY: RGBColor = RGBColor(120, 120, 120);

const POOLS: &[Line] = &[
    Line {
        name: "open",
        color: BLUE,
        value: |status| status.pools,
    },
    Line {
        name: "at most",
        color: GREY,
        value: |status| status.max_pools.unwrap_or_default(),
    },
];

const CONNECTIONS: &[Line] = &[
    Line {
        name: "in use",
        color: ORANGE,
        value: |status| status.connections.in_use,
    },
    Line {
        name: "all, with those being opened or closed",
        color: BLUE,
        value: |status| status.connections.total(),
    },
    Line {
        name: "budget",
        color: GREY,
        value: |status| {
            let max = status
                .servers
                .values()
                .filter_map(|server| server.max_connections);
            max.sum()
        },
    },
];

const WAITING: &[Line] = &[Line {
    name: "waiting for a connection",
    color: RED,
    value: |status| status.connections.waiting,
}];

pub fn draw(life: &Life, path: &str) -> Result<(), Box<dyn Error>> {
    let page = SVGBackend::new(path, (1_000, 760)).into_drawing_area();
    page.fill(&WHITE)?;
    let charts = page.split_evenly((3, 1));
    for (area, (title, lines)) in charts.iter().zip([
        ("Pools", POOLS),
        ("Connections to the server", CONNECTIONS),
        ("Statements that wait", WAITING),
    ]) {
        chart(area, life, title, lines)?;
    }
    page.present()?;
    Ok(())
}

fn chart(
    area: &Area<'_>,
    life: &Life,
    title: &str,
    lines: &'static [Line],
) -> Result<(), Box<dyn Error>> {
    let most = lines
        .iter()
        .flat_map(|line| life.moments.iter().map(|(_, status)| (line.value)(status)))
        .max()
        .unwrap_or_default()
        .max(1) as f64;
    let top = most * 1.25;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..life.seconds(), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("seconds")
        .draw()?;
    for (at, name) in &life.phases {
        let ends = vec![(*at, 0.0), (*at, top)];
        chart.draw_series(LineSeries::new(ends, GREEN.mix(0.6)))?;
        let label = Text::new(*name, (*at + 0.05, top * 0.98), ("sans-serif", 13));
        chart.draw_series([label])?;
    }
    for line in lines {
        let steps = life
            .moments
            .iter()
            .map(|(at, status)| (*at, (line.value)(status) as f64));
        chart
            .draw_series(LineSeries::new(steps, line.color.stroke_width(2)))?
            .label(line.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], line.color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
