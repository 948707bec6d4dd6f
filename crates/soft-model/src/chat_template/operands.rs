//! Where a template can make much of little: `a + a` on lists costs nothing until the library, some
//! additions later, copies what they hold; `~` and most filters write a list out as text. Fuel is
//! charged for either only afterwards. So what stands beside those operators and before those
//! filters is measured first, by a filter that this module writes into the source.

use minijinja::machinery::ast::{BinOp, BinOpKind, CallArg, Expr, Spanned, Stmt};
use minijinja::machinery::{Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

/// Name of the filter that gives back what it gets, or refuses a container that is too large.
pub(super) const MEASURE: &str = "__measure";

/// Filters that read no more of a container than its length or its ends.
const CHEAP: [&str; 8] = ["count", "d", "default", "first", "last", "length", "tojson", MEASURE];

/// The template with every operand of `+` and `~`, and all that filters, functions and tests get,
/// measured. Lines stay where they are. What does not parse is given back as it is, for the library to refuse.
pub(super) fn measured(source: &str, name: &str, syntax: SyntaxConfig) -> String {
    let Ok(template) = parse(source, name, syntax.clone()) else { return source.to_owned() };
    let mut measures = Measures { tokens: Vec::new(), insertions: Vec::new() };
    for (token, span) in tokenize(source, false, syntax).map_while(Result::ok) {
        if matches!(token, Token::Plus | Token::Tilde | Token::Pipe) {
            measures.tokens.push((span.start_offset as usize, token));
        }
    }
    measures.statement(&template);
    // At one place, what was inserted first stays in front: an operand opens outside in, and
    // closes inside out.
    measures.insertions.sort_by_key(|&(at, _)| at);
    let mut out = String::with_capacity(source.len() + 16 * measures.insertions.len());
    let mut done = 0;
    for (at, text) in measures.insertions {
        out.push_str(&source[done..at]);
        out.push_str(&text);
        done = at;
    }
    out + &source[done..]
}

struct Measures<'a> {
    /// Where operators stand in the source, in order.
    tokens: Vec<(usize, Token<'a>)>,
    insertions: Vec<(usize, String)>,
}

impl Measures<'_> {
    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::ForLoop(each) => {
                self.expression(&each.iter);
                self.expressions(&each.filter_expr);
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                self.statements(&condition.true_body);
                self.statements(&condition.false_body);
            }
            Stmt::WithBlock(block) => {
                self.expressions(block.assignments.iter().map(|(_, value)| value));
                self.statements(&block.body);
            }
            Stmt::Set(set) => self.expression(&set.expr),
            Stmt::SetBlock(block) => {
                self.expressions(&block.filter);
                self.statements(&block.body);
            }
            Stmt::AutoEscape(block) => {
                self.expression(&block.enabled);
                self.statements(&block.body);
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter);
                self.statements(&block.body);
            }
            Stmt::Macro(own) => {
                self.expressions(&own.defaults);
                self.statements(&own.body);
            }
            Stmt::CallBlock(block) => {
                self.expression(&block.call.expr);
                self.arguments(&block.call.args);
                self.expressions(&block.macro_decl.defaults);
                self.statements(&block.macro_decl.body);
            }
            Stmt::Do(action) => {
                self.expression(&action.call.expr);
                self.arguments(&action.call.args);
            }
            _ => {}
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn expression(&mut self, expression: &Expr<'_>) {
        match expression {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                self.expressions([&slice.start, &slice.stop, &slice.step].into_iter().flatten());
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => self.operation(operation),
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr);
                self.expressions(comparison.ops.iter().map(|op| &op.expr));
            }
            Expr::IfExpr(choice) => {
                self.expressions([&choice.true_expr, &choice.test_expr]);
                self.expressions(&choice.false_expr);
            }
            Expr::Filter(filter) => {
                // Without an expression it is given the text of a block.
                if let Some(input) = &filter.expr {
                    self.expression(input);
                    let pipe = self.before(filter.span().start_offset as usize, Token::Pipe);
                    if !CHEAP.contains(&filter.name) {
                        self.insert(pipe, format!("|{MEASURE}"));
                    }
                }
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(attribute) => self.expression(&attribute.expr),
            Expr::GetItem(item) => self.expressions([&item.expr, &item.subscript_expr]),
            Expr::Call(call) => {
                self.expression(&call.expr);
                self.arguments(&call.args);
            }
            Expr::List(list) => self.expressions(&list.items),
            Expr::Tuple(tuple) => self.expressions(&tuple.items),
            Expr::Map(map) => {
                for (key, value) in map.keys.iter().zip(&map.values) {
                    self.expressions([key, value]);
                }
            }
        }
    }

    fn expressions<'e, 's: 'e>(&mut self, some: impl IntoIterator<Item = &'e Expr<'s>>) {
        some.into_iter().for_each(|expression| self.expression(expression));
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value) | CallArg::Kwarg(_, value) => {
                    self.expression(value);
                    self.measure_end(value);
                }
                CallArg::PosSplat(value) | CallArg::KwargSplat(value) => self.expression(value),
            }
        }
    }

    /// Has the value of an argument measured, by a filter at its end: where it begins, the library
    /// does not say of every expression.
    fn measure_end(&mut self, value: &Expr<'_>) {
        match value {
            Expr::IfExpr(choice) => {
                self.measure_end(&choice.true_expr);
                choice.false_expr.iter().for_each(|other| self.measure_end(other));
            }
            Expr::BinOp(operation)
                if matches!(operation.op, BinOpKind::ScAnd | BinOpKind::ScOr) =>
            {
                self.measure_end(&operation.left);
                self.measure_end(&operation.right);
            }
            // Numbers, truth values, and sums of what is measured.
            Expr::Const(_)
            | Expr::BinOp(_)
            | Expr::UnaryOp(_)
            | Expr::Compare(_)
            | Expr::Test(_) => {}
            other => {
                self.insert(other.span().end_offset as usize, format!("|{MEASURE}"));
            }
        }
    }

    /// `a + b` becomes `(a)|measure +(b)|measure`. Of a chain only the links are measured, so that
    /// it nests no deeper than it did: what is stored of their sum is measured when it is used.
    fn operation(&mut self, operation: &Spanned<BinOp<'_>>) {
        let operator = match operation.op {
            BinOpKind::Add => Token::Plus,
            BinOpKind::Concat => Token::Tilde,
            _ => return self.expressions([&operation.left, &operation.right]),
        };
        let span = operation.span();
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        // Between the operands stand only the brackets around them.
        let left_end = operation.left.span().end_offset as usize;
        let operator = self.after(left_end, operator);
        if is_chain(&operation.left) {
            self.expression(&operation.left);
        } else {
            self.insert(start, "(".into());
            self.expression(&operation.left);
            self.insert(operator, format!(")|{MEASURE} "));
        }
        if is_chain(&operation.right) {
            self.expression(&operation.right);
        } else {
            self.insert(operator + 1, "(".into());
            self.expression(&operation.right);
            self.insert(end, format!(")|{MEASURE} "));
        }
    }

    fn insert(&mut self, at: usize, text: String) {
        self.insertions.push((at, text));
    }

    /// Where the first such operator stands from `start` on.
    fn after(&self, start: usize, operator: Token<'_>) -> usize {
        let mut tokens = self.tokens.iter().filter(|(at, _)| *at >= start);
        tokens.find(|(_, token)| same(token, &operator)).map_or(start, |&(at, _)| at)
    }

    /// Where the last such operator stands before `end`.
    fn before(&self, end: usize, operator: Token<'_>) -> usize {
        let mut tokens = self.tokens.iter().rev().filter(|(at, _)| *at < end);
        tokens.find(|(_, token)| same(token, &operator)).map_or(end, |&(at, _)| at)
    }
}

fn is_chain(operand: &Expr<'_>) -> bool {
    let Expr::BinOp(operation) = operand else { return false };
    matches!(operation.op, BinOpKind::Add | BinOpKind::Concat)
}

fn same(a: &Token<'_>, b: &Token<'_>) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;

    #[test]
    fn operands_and_what_filters_get_are_measured() {
        for (source, expected) in [
            ("{{ a + (b) }}", "{{ (a )|M +( (b))|M  }}"),
            ("{{ a~b.c[0]|f }}", "{{ (a)|M ~(b.c[0]|M|f)|M  }}"),
            ("{{ a + b + c }}", "{{ (a )|M +( b)|M  +( c)|M  }}"),
            (
                "{{ f(a, k=b.c) }}{{ x|f(y if z else [w]) }}",
                "{{ f(a|M, k=b.c|M) }}{{ x|M|f(y|M if z else [w]|M) }}",
            ),
            (
                "{% if x|length > 1 %}{{ x | upper }}{% endif %}",
                "{% if x|length > 1 %}{{ x |M| upper }}{% endif %}",
            ),
            ("a + b\n{# c + d #}{{ 'e + f' }}{% raw %}{{ g + h }}{% endraw %}", ""),
            ("{{ a + }}", ""),
        ] {
            let expected = if expected.is_empty() { source } else { expected };
            let measured = measured(source, "t", SyntaxConfig::default());
            assert_eq!(measured.replace(MEASURE, "M"), expected, "{source}");
        }
    }

    #[test]
    fn a_measured_template_renders_the_same() {
        for source in [
            "{{ 1 + 2 * 3 - 4 ~ 'x' ~ -5 + (6 ~ 7)|length }}",
            "{{ (a + (b))|join(',')|upper ~ [a + b, {'k': a + b}] ~ (a, b) }}",
            "{{ 'yes' if 'x' + 'y' == 'xy' and not a + b == [] else 'no' ~ 'n' }}",
            "{{ b[0 + 1:1 + 1] ~ (s + 's')[1 - 0:] ~ s.upper() + s | replace('s' + 't', '' ~ 1) }}",
            "{%- for x in a + b if x + 1 > 2 -%}\n{{ loop.index0 + x ~ ';' }}\n{% else %}{{ s + s }}{% endfor -%} !",
            "{% macro m(x, y='p' + 'q') %}{{ x ~ y }}{% endmacro %}{{ m(s + 't') + m(y=1 + 1, x=s ~ s) }}",
            "{% set ns = namespace(v=a + a) %}{% set ns.v = ns.v + [s + s] %}{{ ns.v }}{% set t = s ~ 1, 2 + 3 %}{{ t }}",
            "{% with q = s + s %}{{ q is eq('s' + 't') }}{{ q is not string }}{% endwith %}",
            "{% filter upper %}{{ s + 'x' }}{% endfilter %}{% set c | replace('a', 'b' + 'c') %}a{{ s ~ 'a' }}{% endset %}{{ c }}",
            "{{ none ~ true + 1.5 }}{{ missing ~ 'x' }}{{ (missing | default('d' + 'e')) + s }}",
            "{% if s + 's' in ['sts', a + b] %}1{% elif 1 + 1 %}2{% endif %}{{ - 1 + 2 ** 1 + 1 }}",
            "é{{ 'é' + 'ü' ~ s }}ß\r\n{{ s +\n s\n + s }}",
            "{{ (a + (b + [s])) ~ (s ~ s) + s }}{{ s|replace('s' if s else 't', b and s or a)|length }}",
            "{{ range(1, 2 + 1)|list ~ dict(k=a, j=s).k ~ [a, b]|map('first')|join(s) ~ s.replace(s, 'q') }}",
        ] {
            let syntax = SyntaxConfig::default();
            let rendered = |source: &str| {
                let mut environment = Environment::new();
                environment.add_filter(MEASURE, |value: minijinja::Value| value);
                let values = context! { a => [1, 2], b => [3, 4], s => "st" };
                environment.render_str(source, values).map_err(|error| error.to_string())
            };
            let measured = measured(source, "t", syntax);
            assert_ne!(measured, source);
            assert_eq!(rendered(&measured), rendered(source), "{measured}");
            assert!(!matches!(&rendered(source), Err(e) if e.contains("syntax")), "{source}");
        }
    }

    #[test]
    fn a_long_chain_is_no_deeper_than_it_was() {
        let chain = vec!["'a'"; 300].join(" ~ ");
        let source = format!("{{{{ {chain} }}}}");
        let measured = measured(&source, "t", SyntaxConfig::default());
        let mut environment = Environment::new();
        environment.add_filter(MEASURE, |value: minijinja::Value| value);
        let text = environment.render_str(&measured, ()).expect("it parses");
        assert_eq!(text, "a".repeat(300));
    }
}
