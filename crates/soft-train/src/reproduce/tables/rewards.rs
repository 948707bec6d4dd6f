//! MNNS: what rewards add to a model that was trained on the truth for a while.

use crate::config::Arm;
use crate::reproduce::table::{Cell, Kind, Place, Table};

const BASE: &str = r#"
[model]
family = "gpt2"
n_layers = 1
n_heads = 1
d_model = 32
[task]
name = "mnns"
digits = 4
digit_max = 9
[train]
micro_batch = 64
lr = 5e-3
warmup = 100
"#;

/// Steps of the models that everything begins with, soft and hard: enough to be past chance, and not
/// enough to be good.
const START: [usize; 2] = [800, 1500];
/// Steps on rewards, with either budget.
const STEPS: [usize; 2] = [300, 3000];

/// What all trainings on rewards have in common.
const REWARDED: [&str; 4] =
    ["rl.algorithm=grpo", "rl.group=16", "train.micro_batch=16", "train.warmup=20"];

/// The right answers alone, by the gradient through the model's own mixtures.
const DIFFERENTIABLE: [&str; 3] =
    ["objective.thought_weight=0", "rollout.kind=sequential", "guidance.start=0"];

const SOURCE: &str =
    "CoT2 (Gozeten et al., 2025); its gains of rewards are from memory, unverified";

fn cell(name: &'static str, label: &'static str, arm: Arm, settings: &[&str]) -> Cell {
    Cell {
        name,
        label,
        arm,
        settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        steps: STEPS,
        published: None,
        kind: Kind::Rewards,
        place: Place::Row,
        start: None,
        judge: None,
    }
}

/// What a reward model is made of: two layers that read a problem and an answer.
const JUDGE: [&str; 5] = [
    "model.n_layers=2",
    "model.n_heads=4",
    "train.micro_batch=128",
    "train.lr=5e-3",
    "train.schedule=cosine",
];
/// Steps of its training.
const JUDGE_STEPS: usize = 6000;

/// The reward of a model, drawn for or differentiated: it reads problem and answer alone.
const JUDGED: [&str; 2] = ["rl.reward_model=\"{judge}\"", "rl.discretize=drop"];

/// Every policy, from the same models.
pub(super) fn rewards() -> Table {
    let start = |name, label, arm, settings: &[&str], steps| Cell {
        steps: [steps; 2],
        kind: if arm == Arm::Soft { Kind::Thoughts } else { Kind::Plain },
        ..cell(name, label, arm, settings)
    };
    let from = |start, arm, name, label, settings: &[&str]| {
        let all = [&REWARDED[..], settings].concat();
        Cell { start: Some(start), ..cell(name, label, arm, &all) }
    };
    let soft =
        |name, label, settings: &[&str]| from("start-soft", Arm::Soft, name, label, settings);
    let hard =
        |name, label, settings: &[&str]| from("start-hard", Arm::Hard, name, label, settings);
    let judged = |name, label, settings: &[&str]| Cell {
        judge: Some("judge"),
        ..soft(name, label, &[&JUDGED[..], settings].concat())
    };
    Table {
        name: "rewards",
        title: "MNNS: rewards on thoughts, policy by policy",
        claim: "Gozeten et al. (2025) report that GRPO over means of sampled tokens lifts a small \
                model on MNNS (pass@1 of 1, 3 and 6 tokens from 39.76, 43.50 and 49.05 to 49.01, \
                51.61 and 51.85 %). SofT-GRPO, Soft Tokens and HRPO report gains of other policies \
                on language models.",
        method: "A model of one layer, one head and width 32. Soft arms begin with the same model, \
                 trained on the truth for 800 steps, the hard arm with one trained for 1,500 (its \
                 training is slower to be of use); nothing is chosen by validation. GRPO: 16 \
                 problems a step, 16 draws each, one update. The learning rate of each policy is the \
                 best of 1e-3, 3e-4, 1e-4 and one more beyond the better end (3e-3 or 3e-5), by the \
                 reward of the last sixth of 1,000 steps with a seed that is not used here. No policy \
                 is held near its beginning but the hybrid one, whose surrogate leads nowhere \
                 otherwise: 0.79 to 0.82 at best in 3,000 steps at three rates, and to 0.87 with a \
                 divergence of weight 0.3. Two \
                 arms know the right answers: they train on their cross-entropy alone, whose gradient \
                 goes through the thoughts, or add it to the policy gradient. Four arms know a reward \
                 model instead: a classifier of two layers and width 32, trained for 6,000 steps of \
                 its own (their time is in none of these figures) to tell right answers of the \
                 training problems from wrong ones, that reads problem and answer alone. It is asked \
                 for the draws of a policy, or differentiated through the answers and thoughts that \
                 the model feeds itself, or both. The rate of these arms, and of the answers alone, \
                 is the best of three or four (1e-3 to 3e-5, to 1e-5 where the answers are tokens) by \
                 accuracy with that seed. The draws below of arms without a policy have the Gaussian \
                 noise that they never trained under. Their steps take less time than those of a \
                 policy, which draws 256 lines a step.",
        source: SOURCE,
        base: BASE,
        cells: vec![
            start("start-soft", "soft, before rewards", Arm::Soft, &["train.lr=1e-2"], START[0]),
            start("start-hard", "hard, before rewards", Arm::Hard, &[], START[1]),
            hard("hard", "hard chain", &["rl.policy=token", "train.lr=1e-3"]),
            soft("token", "one token of the mixture", &["rl.policy=token", "train.lr=1e-3"]),
            soft(
                "samples-3",
                "mean of 3 tokens",
                &["rl.policy=samples", "rl.samples=3", "train.lr=1e-3"],
            ),
            soft(
                "samples-6",
                "mean of 6 tokens",
                &["rl.policy=samples", "rl.samples=6", "train.lr=1e-3"],
            ),
            soft("gumbel", "Gumbel noise", &["rl.policy=gumbel", "train.lr=1e-4"]),
            soft("gaussian", "Gaussian noise", &["rl.policy=gaussian", "train.lr=3e-4"]),
            soft("dirichlet", "Dirichlet weights", &["rl.policy=dirichlet", "train.lr=3e-4"]),
            soft(
                "hybrid",
                "token drawn, mixture fed",
                &["rl.policy=hybrid", "rl.beta=0.3", "train.lr=1e-4"],
            ),
            soft(
                "answers",
                "no policy: the answers, through the thoughts",
                &[
                    &DIFFERENTIABLE[..],
                    &["rl.algorithm=off", "rl.policy=gaussian", "train.lr=3e-4"],
                ]
                .concat(),
            ),
            soft(
                "mixed",
                "Gaussian noise, and the answers through the thoughts",
                &[&DIFFERENTIABLE[..], &["rl.policy=gaussian", "rl.supervised=1", "train.lr=3e-4"]]
                    .concat(),
            ),
            Cell {
                steps: [JUDGE_STEPS; 2],
                kind: Kind::Judge,
                ..cell("judge", "the reward model itself", Arm::NoThought, &JUDGE)
            },
            judged(
                "judged",
                "Gaussian noise, rewarded by the model",
                &["rl.rewards=[\"model 1\"]", "rl.policy=gaussian", "train.lr=1e-4"],
            ),
            judged(
                "pathwise",
                "no policy: the reward model, through answers and thoughts",
                &["rl.algorithm=pathwise", "rl.pathwise=1", "rl.policy=gaussian", "train.lr=1e-4"],
            ),
            judged(
                "pathwise-tokens",
                "the same, answers in tokens (straight-through)",
                &[
                    "rl.algorithm=pathwise",
                    "rl.pathwise=1",
                    "rl.pathwise_answers=token",
                    "rl.policy=gaussian",
                    "train.lr=1e-5",
                ],
            ),
            judged(
                "judged-mixed",
                "both: Gaussian noise, and the reward model through the thoughts",
                &[
                    "rl.rewards=[\"model 1\"]",
                    "rl.pathwise=1",
                    "rl.policy=gaussian",
                    "train.lr=1e-4",
                ],
            ),
        ],
        seeds: [&[42, 43, 44]; 2],
    }
}
