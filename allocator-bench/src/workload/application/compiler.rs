//! `compiler`: the phases of a compiler, one after the other, for one module of functions. Parsing makes syntax trees
//! of many small nodes and interned names, all of which live long; analysis grows hash maps from name to uses; code
//! generation makes short vectors for each expression and appends them to one that grows; then all is dropped. Modules
//! of 2000 functions follow one another. Three tenths of the instructions are the allocator's. The work per thread is
//! constant.

use rustc_hash::FxHashMap;

use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

use super::interner::{Interner, check_words, words};

const FUNCTIONS: usize = 150_000;
const FUNCTIONS_PER_MODULE: usize = 2000;
const NAMES: usize = 20_000;
const MAX_DEPTH: usize = 6;
const MAX_ARGUMENTS: usize = 4;

/// Plays the workload; every thread compiles its own modules.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let functions = scaled(FUNCTIONS, scale);
    let source_names = words(NAMES.min(functions));
    let checksum = on_threads(threads, |thread| {
        let mut rng = Rng::new(0xC0 + thread);
        let counts =
            (0..functions).step_by(FUNCTIONS_PER_MODULE).map(|done| (functions - done).min(FUNCTIONS_PER_MODULE));
        counts.map(|count| compile(count, &source_names, &mut rng)).sum()
    });
    check_words(&source_names);
    checksum
}

enum Expression {
    Number(u64),
    Name(u32),
    Sum(Box<(Expression, Expression)>),
    Call { callee: u32, arguments: Vec<Expression> },
}

/// What the nodes of trees are counted by: their number, and the sum of what they hold.
#[derive(Debug, Default, PartialEq)]
struct Nodes {
    count: u64,
    sum: u64,
}

impl Nodes {
    fn add(&mut self, node: &Expression) {
        let held = match node {
            Expression::Number(number) => *number,
            Expression::Name(name) => u64::from(*name),
            Expression::Sum(_) => 0,
            Expression::Call { callee, arguments } => u64::from(*callee) + arguments.len() as u64,
        };
        self.count += 1;
        self.sum = self.sum.wrapping_add(held);
    }
}

struct Parser<'source> {
    source_names: &'source [String],
    names: Interner,
    /// Bytes of every name that was met.
    names_bytes: usize,
    nodes: Nodes,
    rng: &'source mut Rng,
}

impl Parser<'_> {
    fn name(&mut self) -> u32 {
        let name = &self.source_names[self.rng.below(self.source_names.len())];
        self.names_bytes += name.len();
        self.names.symbol(name)
    }

    fn expression(&mut self, depth: usize) -> Expression {
        let expression = match self.rng.below(if depth == MAX_DEPTH { 2 } else { 6 }) {
            0 => Expression::Number(self.rng.next_bits()),
            1 => Expression::Name(self.name()),
            2 | 3 => Expression::Sum(Box::new((self.expression(depth + 1), self.expression(depth + 1)))),
            _ => {
                let (callee, arguments) = (self.name(), self.rng.below(MAX_ARGUMENTS + 1));
                Expression::Call { callee, arguments: (0..arguments).map(|_| self.expression(depth + 1)).collect() }
            }
        };
        self.nodes.add(&expression);
        expression
    }
}

/// Compiles a module of so many functions; gives a checksum of its code and names.
fn compile(functions: usize, source_names: &[String], rng: &mut Rng) -> u64 {
    let mut parser = Parser { source_names, names: Interner::default(), names_bytes: 0, nodes: Nodes::default(), rng };
    let trees: Vec<Expression> = (0..functions).map(|_| parser.expression(0)).collect();
    let mut uses: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
    for (function, tree) in trees.iter().enumerate() {
        note_uses(tree, function as u32, &mut uses);
    }
    let (mut code, mut nodes) = (Vec::new(), Nodes::default());
    for tree in &trees {
        let generated = generate(tree, &mut nodes);
        code.extend_from_slice(&generated);
    }
    assert_eq!(nodes, parser.nodes, "a node was lost or has changed");
    let names_bytes: usize =
        uses.iter().map(|(&name, functions)| parser.names.text(name).len() * functions.len()).sum();
    assert_eq!(names_bytes, parser.names_bytes, "a name or a use of it was lost");
    let code_sum = code.iter().fold(0_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    code_sum.wrapping_add(names_bytes as u64)
}

fn note_uses(expression: &Expression, function: u32, uses: &mut FxHashMap<u32, Vec<u32>>) {
    match expression {
        Expression::Number(_) => {}
        Expression::Name(name) => uses.entry(*name).or_default().push(function),
        Expression::Sum(both) => {
            note_uses(&both.0, function, uses);
            note_uses(&both.1, function, uses);
        }
        Expression::Call { callee, arguments } => {
            uses.entry(*callee).or_default().push(function);
            arguments.iter().for_each(|argument| note_uses(argument, function, uses));
        }
    }
}

/// The code of an expression, made from that of its parts; counts the nodes.
fn generate(expression: &Expression, nodes: &mut Nodes) -> Vec<u8> {
    nodes.add(expression);
    let mut code = Vec::new();
    match expression {
        Expression::Number(number) => code.extend_from_slice(&number.to_le_bytes()),
        Expression::Name(name) => code.extend_from_slice(&name.to_le_bytes()),
        Expression::Sum(both) => {
            code.extend(generate(&both.0, nodes));
            code.extend(generate(&both.1, nodes));
            code.push(b'+');
        }
        Expression::Call { callee, arguments } => {
            arguments.iter().for_each(|argument| code.extend(generate(argument, nodes)));
            code.push(b'(');
            code.extend_from_slice(&callee.to_le_bytes());
        }
    }
    code
}
