//! A rule for kernels that drivers need: who reads a uniform in a loop and again behind it reads it before the loop,
//! too.
//!
//! Mesa 26's lavapipe works the address of a uniform buffer out where it is first needed. Where that is in a loop, the
//! address leaves the loop through a register that only active lanes write; a subgroup none of whose lanes takes part
//! in the loop runs through it all the same, finds a null pointer behind it, and reads there. A read in front of the
//! loop makes the address known to all (`docs/performance-adapters.md` has the smallest kernel that dies).

use naga::{Block, Expression, Function, GlobalVariable, Handle, Module, Span, Statement};

/// Where an entry point breaks the rule for a uniform: the name and the place of the read behind the loop.
pub fn late_reads(module: &Module, entry: &Function) -> Vec<(String, Span)> {
    let uniforms = module.global_variables.iter().filter(|(_, g)| g.space == naga::AddressSpace::Uniform);
    let mut found = Vec::new();
    for (handle, global) in uniforms {
        let mut walk = Walk { module, uniform: handle, late: None };
        walk.block(entry, &entry.body, State::Unread);
        if let Some(span) = walk.late {
            found.push((global.name.clone().unwrap_or_default(), span));
        }
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Only read in a loop so far, if at all since.
    InLoop,
    Unread,
    /// Read on every way here.
    Read,
}

struct Walk<'m> {
    module: &'m Module,
    uniform: Handle<GlobalVariable>,
    late: Option<Span>,
}

impl Walk<'_> {
    fn read(&mut self, state: State, span: Span) -> State {
        if state == State::InLoop {
            self.late.get_or_insert(span);
        }
        State::Read
    }

    /// Whether an expression is a read of the uniform.
    fn reads(&self, function: &Function, expression: Handle<Expression>) -> bool {
        let Expression::Load { mut pointer } = function.expressions[expression] else { return false };
        loop {
            match function.expressions[pointer] {
                Expression::GlobalVariable(global) => return global == self.uniform,
                Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => pointer = base,
                _ => return false,
            }
        }
    }

    /// The state behind a block, from the one before it.
    fn block(&mut self, function: &Function, block: &Block, mut state: State) -> State {
        for (statement, span) in block.span_iter() {
            state = match statement {
                Statement::Emit(range) => {
                    let mut state = state;
                    for expression in range.clone() {
                        if self.reads(function, expression) {
                            state = self.read(state, function.expressions.get_span(expression));
                        }
                    }
                    state
                }
                Statement::Block(inner) => self.block(function, inner, state),
                Statement::If { accept, reject, .. } => {
                    let ways = [accept, reject].map(|way| self.block(function, way, state));
                    ways[0].min(ways[1])
                }
                Statement::Switch { cases, .. } => {
                    cases.iter().map(|case| self.block(function, &case.body, state)).min().unwrap_or(state)
                }
                Statement::Loop { body, continuing, .. } => {
                    let inside = self.block(function, body, state);
                    let inside = self.block(function, continuing, inside);
                    if state == State::Unread && inside != State::Unread { State::InLoop } else { state }
                }
                Statement::Call { function: called, .. } => {
                    let called = &self.module.functions[*called];
                    let before = self.late;
                    let state = self.block(called, &called.body, state);
                    if before.is_none() && self.late.is_some() {
                        self.late = Some(*span);
                    }
                    state
                }
                _ => state,
            };
        }
        state
    }
}
