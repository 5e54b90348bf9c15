use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Shape {
    pub name: String,
    pub sides: Vec<u32>,
    pub inside: Option<Box<Shape>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    Made(Shape),
    Moved { from: (i64, i64), to: (i64, i64) },
    Named(String),
}

pub fn count(number: u32) -> BTreeMap<usize, Vec<Shape>> {
    let shapes = (0..number).map(|n| Shape { name: format!("shape {n}"), sides: (0..n % 9).collect(), inside: None });
    shapes.fold(BTreeMap::new(), |mut map: BTreeMap<usize, Vec<Shape>>, shape| {
        map.entry(shape.sides.len()).or_default().push(shape);
        map
    })
}

pub fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by(|a, b| b.cmp(a));
    events.dedup();
    events
}
