//! The colours: few, of the terminal's own sixteen, readable on dark and on light ground.

use ratatui::style::{Color, Modifier, Style};

/// Colours by what they mean.
#[derive(Debug, Clone, Copy)]
pub(in crate::dashboard) struct Palette {
    colored: bool,
}

impl Palette {
    /// Without colours where `NO_COLOR` is set to anything.
    pub(in crate::dashboard) fn from_environment() -> Self {
        Self::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    pub(in crate::dashboard) fn new(colored: bool) -> Self {
        Self { colored }
    }

    fn of(self, color: Color) -> Style {
        if self.colored { Style::new().fg(color) } else { Style::new() }
    }

    /// What is looked at first: the smoothed figure, what is done, soft text.
    pub(super) fn accent(self) -> Style {
        self.of(Color::Cyan)
    }

    /// Held-out data.
    pub(super) fn held_out(self) -> Style {
        self.of(Color::Magenta)
    }

    /// A limit, a wrong answer, a run that stops.
    pub(super) fn warning(self) -> Style {
        self.of(Color::Red)
    }

    /// A right answer.
    pub(super) fn good(self) -> Style {
        self.of(Color::Green)
    }

    /// Axes, units, what was before.
    pub(super) fn quiet(self) -> Style {
        if self.colored {
            self.of(Color::DarkGray)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Soft text: seen without colours too.
    pub(super) fn soft(self) -> Style {
        self.accent().add_modifier(Modifier::UNDERLINED)
    }

    /// What is chosen.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }
}
