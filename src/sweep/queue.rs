//! A submitted sweep as work for a queue: Slurm's job arrays, HyperQueue's task arrays, a Kubernetes Indexed Job. A
//! task is one run of the plan, `sweep run SWEEP --index N`; whoever runs it twice does no harm (`attempt`).

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::SweepPlan;

/// What a job of Slurm asks for; `[slurm]` of a sweep file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlurmSection {
    /// Partition (`--partition`).
    pub partition: Option<String>,
    /// Account (`--account`).
    pub account: Option<String>,
    /// Generic resources of a task (`--gres`), as "gpu:1".
    pub gres: Option<String>,
    /// Memory of a task (`--mem`), as "16G".
    pub memory: Option<String>,
    /// Processors of a task (`--cpus-per-task`).
    pub cpus: Option<u32>,
    /// Time limit of a task (`--time`), as "02:00:00". A task that meets it saves a checkpoint and is queued again.
    pub time: Option<String>,
    /// Seconds before the limit at which a task is told. Left out: 120.
    pub notice: Option<u32>,
    /// Tasks at once. Left out: as many as the queue lets.
    pub parallel: Option<u32>,
    /// Most tasks of an array. Left out: `MaxArraySize` of the queue, else 1001.
    pub array: Option<u32>,
    /// More lines of the script's head, as "#SBATCH --constraint=a100".
    pub head: Vec<String>,
    /// Lines before the program is called, as "module load vulkan".
    pub setup: Vec<String>,
}

impl SlurmSection {
    /// What cannot be in a script.
    pub(super) fn check(&self) -> Result<(), String> {
        let texts = [&self.partition, &self.account, &self.gres, &self.memory, &self.time];
        let single = texts.into_iter().flatten().chain(&self.head).chain(&self.setup);
        if let Some(text) = single.clone().find(|text| text.contains(['\n', '\r', '\0'])) {
            return Err(format!("[slurm]: {text:?} is more than a line"));
        }
        if let Some(line) = self.head.iter().find(|line| !line.starts_with("#SBATCH ")) {
            return Err(format!("[slurm] `head`: `{line}` does not begin with `#SBATCH `"));
        }
        match [self.parallel, self.array, self.cpus].contains(&Some(0)) {
            true => Err("[slurm]: `parallel`, `array` and `cpus` must be at least 1".into()),
            false => Ok(()),
        }
    }
}

/// `MaxArraySize` where nobody says another: an array's numbers are smaller.
pub const ARRAY: u32 = 1001;

/// The script of an array, and which runs its tasks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayScript {
    /// The text for `sbatch`.
    pub text: String,
    /// Task number t is run `offset + t`, from 1.
    pub offset: usize,
    /// Numbers of its runs, from 1.
    pub runs: Vec<usize>,
}

/// What the tasks of any queue need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The program.
    pub program: PathBuf,
    /// The sweep file.
    pub sweep: PathBuf,
    /// The folder that it is called in, to which paths of sweep files are relative.
    pub folder: PathBuf,
    /// Numbers of the runs to do, from 1.
    pub runs: Vec<usize>,
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Numbers as `1-4,7,9-12`.
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *n => *last = *n,
            _ => parts.push((*n, *n)),
        }
    }
    let text = |(a, b): (usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.into_iter().map(text).collect::<Vec<_>>().join(",")
}

/// The card that Slurm gave the task, by its bus id: a Vulkan driver shows them all.
const BIND: &str = r#"if [ -n "${CUDA_VISIBLE_DEVICES:-}" ] && command -v nvidia-smi >/dev/null 2>&1; then
    bus=$(nvidia-smi --query-gpu=pci.bus_id --format=csv,noheader -i "${CUDA_VISIBLE_DEVICES%%,*}" | tr 'A-F' 'a-f')
    # 00000000:01:00.0 there, 0000:01:00.0 here.
    [ -z "$bus" ] || export LOWLAND_ADAPTER="pci:${bus#0000}"
fi
"#;

impl SweepPlan {
    /// Folder of what queues write.
    pub fn slurm_folder(&self) -> PathBuf {
        self.output.join("slurm")
    }

    /// Scripts for `sbatch`, one for each array; `most` is the queue's `MaxArraySize`, where it is known.
    pub fn slurm_scripts(&self, to_do: &Submission, most: Option<u32>) -> Vec<ArrayScript> {
        let own = self.slurm.clone().unwrap_or_default();
        // An array's numbers are smaller than the bound, and begin with 0 here.
        let size = own.array.or(most).unwrap_or(ARRAY).max(1) as usize;
        let mut scripts: Vec<ArrayScript> = Vec::new();
        for run in &to_do.runs {
            let offset = (run - 1) / size * size + 1;
            match scripts.last_mut() {
                Some(last) if last.offset == offset => last.runs.push(*run),
                _ => scripts.push(ArrayScript { text: String::new(), offset, runs: vec![*run] }),
            }
        }
        for script in &mut scripts {
            script.text = self.slurm_script(&own, to_do, script.offset, &script.runs);
        }
        scripts
    }

    fn slurm_script(&self, own: &SlurmSection, to_do: &Submission, offset: usize, runs: &[usize]) -> String {
        let tasks: Vec<usize> = runs.iter().map(|run| run - offset).collect();
        let parallel = own.parallel.map_or(String::new(), |n| format!("%{n}"));
        let log = to_do.folder.join(self.slurm_folder()).join("%A_%a.log");
        let mut head = vec![
            format!("--job-name={}", quoted(&self.name)),
            format!("--array={}{parallel}", ranges(&tasks)),
            format!("--chdir={}", quoted_path(&to_do.folder)),
            format!("--output={}", quoted_path(&log)),
            "--open-mode=append".into(),
            "--requeue".into(),
            format!("--signal=B:TERM@{}", own.notice.unwrap_or(120)),
        ];
        let asked = [
            ("partition", &own.partition),
            ("account", &own.account),
            ("gres", &own.gres),
            ("mem", &own.memory),
            ("time", &own.time),
        ];
        head.extend(asked.iter().filter_map(|(key, value)| Some(format!("--{key}={}", quoted(value.as_ref()?)))));
        head.extend(own.cpus.map(|n| format!("--cpus-per-task={n}")));
        let mut text = "#!/bin/bash\n".to_string();
        head.iter().for_each(|line| text += &format!("#SBATCH {line}\n"));
        own.head.iter().for_each(|line| text += &format!("{line}\n"));
        own.setup.iter().for_each(|line| text += &format!("{line}\n"));
        text += BIND;
        let (program, sweep) = (quoted_path(&to_do.program), quoted_path(&to_do.sweep));
        text += &format!(
            "{program} sweep run {sweep} --index $((SLURM_ARRAY_TASK_ID + {offset})) &\n\
             worker=$!\n\
             # A wait that a signal breaks off is waited for again: the worker saves a checkpoint first.\n\
             trap 'kill -TERM $worker 2>/dev/null' TERM\n\
             wait $worker\n\
             code=$?\n\
             while kill -0 $worker 2>/dev/null; do wait $worker; code=$?; done\n\
             # Interrupted, or in another task's hands: queued again.\n\
             if [ $code = 75 ]; then scontrol requeue \"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}\"; fi\n\
             exit $code\n"
        );
        text
    }

    /// The command that gives the runs to HyperQueue.
    pub fn hyperqueue_command(&self, to_do: &Submission) -> String {
        let (program, sweep) = (quoted_path(&to_do.program), quoted_path(&to_do.sweep));
        let task = format!("{program} sweep run {sweep} --index \"$HQ_TASK_ID\"");
        format!(
            "hq submit --name {} --cwd {} --array {} --crash-limit 100 -- sh -c {}",
            quoted(&self.name),
            quoted_path(&to_do.folder),
            ranges(&to_do.runs),
            quoted(&task)
        )
    }

    /// An Indexed Job of Kubernetes for all runs; those that are done end at once. Image and volume are to be filled
    /// in.
    pub fn kubernetes_manifest(&self, to_do: &Submission) -> String {
        let letters = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = self.name.chars().map(letters).take(50).collect();
        let name = name.trim_matches('-');
        let task =
            format!("exec lowland sweep run {} --index $((JOB_COMPLETION_INDEX + 1))", quoted_path(&to_do.sweep));
        let json = |text: &str| serde_json::to_string(text).expect("a text");
        format!(
            "apiVersion: batch/v1\n\
             kind: Job\n\
             metadata:\n  name: lowland-{name}\n\
             spec:\n  completionMode: Indexed\n  completions: {count}\n  parallelism: {parallel}\n  \
             backoffLimitPerIndex: 20\n  maxFailedIndexes: {count}\n  podFailurePolicy:\n    rules:\n      \
             # A wrong config and what diverged end the same way again.\n      \
             - action: FailIndex\n        onExitCodes: {{ containerName: run, operator: In, values: [2, 3] }}\n      \
             - action: Ignore\n        onPodConditions: [{{ type: DisruptionTarget }}]\n  \
             template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: run\n        \
             image: lowland:{version}\n        workingDir: {folder}\n        \
             command: [\"sh\", \"-c\", {task}]\n        \
             resources: {{ limits: {{ nvidia.com/gpu: 1 }} }}\n        volumeMounts: [{{ name: sweep, mountPath: \
             {folder} }}]\n      volumes: [{{ name: sweep, persistentVolumeClaim: {{ claimName: sweep }} }}]\n",
            count = self.runs.len(),
            parallel = self.slurm.as_ref().and_then(|own| own.parallel).unwrap_or(8).min(self.runs.len() as u32),
            version = env!("CARGO_PKG_VERSION"),
            folder = json(&to_do.folder.display().to_string()),
            task = json(&task),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3,7,9-10");
        assert_eq!(ranges(&[4]), "4");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("runs/a-b.toml"), "runs/a-b.toml");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn sections_that_no_script_could_hold_are_refused() {
        let section = |text: &str| toml::from_str::<SlurmSection>(text).unwrap().check();
        assert_eq!(section("partition = \"gpu\"\nhead = [\"#SBATCH --nice\"]"), Ok(()));
        assert!(section("account = \"a\\nrm -r x\"").unwrap_err().contains("more than a line"));
        assert!(section("head = [\"--nice\"]").unwrap_err().contains("#SBATCH"));
        assert!(section("parallel = 0").unwrap_err().contains("at least 1"));
    }
}
