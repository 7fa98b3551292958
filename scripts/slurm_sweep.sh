#!/bin/sh
# A sweep through a real Slurm of one node, which this script starts and ends: an array with a task that is queued
# again, one that is pre-empted, a slurmctld and a slurmd that are killed. In the end every run is done once, to the bits
# of a sweep without a queue. Needs root and slurmctld, slurmd, slurm-client, munge (Debian). Nothing outside a temporary
# folder is written. Ends with 77 where Slurm cannot start. `slurm_sweep.sh [PROGRAM]`
set -eu
program=$(readlink -f "${1:-target/release/lowland}")
skip() {
    echo "skipped: $*"
    exit 77
}
[ "$(id -u)" = 0 ] || skip "Slurm is started as root only"
for tool in munged slurmctld slurmd sbatch squeue scontrol; do
    PATH=$PATH:/usr/sbin command -v $tool >/dev/null 2>&1 || skip "no $tool (Debian: slurmctld slurmd slurm-client munge)"
done
PATH=$PATH:/usr/sbin
[ -d /sys/fs/cgroup ] || skip "slurmd needs /sys/fs/cgroup"

work=$(mktemp -d)
chmod 755 "$work"
# Whether a process was started by this Slurm.
ours() { tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | grep -qx "SLURM_CONF=$work/slurm.conf"; }
end() {
    code=$?
    trap - EXIT INT TERM
    timeout 10 scancel --full --signal=KILL -u root >/dev/null 2>&1 || true
    for file in slurmctld slurmd munged; do
        [ ! -s "$work/$file.pid" ] || kill -KILL "$(cat "$work/$file.pid")" 2>/dev/null || true
    done
    for process in $(pidof slurmstepd lowland || true); do
        ! ours "$process" || kill -KILL "$process" 2>/dev/null || true
    done
    [ $code = 0 ] || [ $code = 77 ] || tail -n 30 "$work"/*.log "$work"/out/slurm/*.log 2>/dev/null || true
    rm -rf "$work"
    exit $code
}
trap end EXIT
trap 'exit 130' INT TERM

host=$(hostname -s)
export SLURM_CONF="$work/slurm.conf"
mkdir -p "$work/state" "$work/spool" "$work/munge"
dd if=/dev/urandom of="$work/munge/key" bs=128 count=1 2>/dev/null
chmod 600 "$work/munge/key"
# Two tasks at once, whatever the machine has.
cat >"$SLURM_CONF" <<C
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket,cred_expire=5
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=5
MaxArraySize=4
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=6
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
C
echo "CgroupPlugin=autodetect" >"$work/cgroup.conf"
munged --force --socket="$work/munge/socket" --key-file="$work/munge/key" --pid-file="$work/munged.pid" \
    --log-file="$work/munged.log" --seed-file="$work/munge/seed" >/dev/null 2>&1 || skip "munged does not start"
begin_slurmctld() { slurmctld -f "$SLURM_CONF" >/dev/null 2>&1; }
begin_slurmd() { slurmd -f "$SLURM_CONF" >/dev/null 2>&1; }
begin_slurmctld || skip "slurmctld does not start"
begin_slurmd || skip "slurmd does not start"
waited=0
until sinfo -h -o %T 2>/dev/null | grep -q idle; do
    waited=$((waited + 1))
    [ $waited -lt 60 ] || { tail -n 5 "$work/slurmd.log" "$work/slurmctld.log"; skip "no idle node after a minute"; }
    sleep 1
done
echo "Slurm $(sinfo --version | cut -d' ' -f2) with one node of 2 processors"

cat >"$work/base.toml" <<C
[language]
random = { levels = 2, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 4
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
[train]
steps = 1500
batch_size = 32
optimizer = { kind = "adamw", lr = 5e-3 }
evaluate_every = 0
checkpoint_every = 100
[evaluate]
sentences = 50
C
# Tasks whose watcher was killed stand as running until their time is over, and their processors with them.
sweep() {
    printf 'name = "queued"\nbase = "base.toml"\noutput = "%s"\n[grid]\nseed = { from = 1, count = 8 }\n[examine]\n' "$1"
    printf 'sentences = 50\n[slurm]\ntime = "00:02:00"\nparallel = 2\nnotice = 20\n'
}
sweep out >"$work/sweep.toml"
sweep alone >"$work/alone.toml"
cd "$work"
"$program" sweep submit sweep.toml --engine slurm
job=$(sed -n '1s/.*"job":"\([0-9]*\)".*/\1/p' out/slurm/jobs.jsonl)
echo "arrays: $(wc -l <out/slurm/jobs.jsonl)"
[ "$(wc -l <out/slurm/jobs.jsonl)" = 2 ] || { echo "8 runs are not two arrays of 4"; exit 1; }
again=$("$program" sweep submit sweep.toml --engine slurm)
echo "$again" | grep -q "nothing is missing" || { echo "submitted twice: $again"; exit 1; }

until squeue -h -t R -o %i | grep -q .; do sleep 0.2; done
sleep 3
echo "requeue of ${job}_0: $(scontrol requeue "${job}_0" 2>&1 && echo done)"
sleep 2
echo "a job of the urgent partition takes the node"
urgent=$(sbatch -p urgent -n 2 --parsable --output="$work/urgent.log" --wrap "sleep 3")
while squeue -h -p urgent | grep -q .; do sleep 0.5; done
until squeue -h -p main -t R | grep -q .; do sleep 0.2; done
sleep 3
echo "slurmctld is killed"
kill -KILL "$(cat slurmctld.pid)"
sleep 2
begin_slurmctld
# Whose end may not have been noted yet: it would have the node for ever.
until squeue -h >/dev/null 2>&1; do sleep 0.2; done
scancel "$urgent" 2>/dev/null || true
until squeue -h -p main -t R 2>/dev/null | grep -q .; do sleep 0.2; done
sleep 3
echo "slurmd is killed, with those who watch its tasks"
kill -KILL "$(cat slurmd.pid)"
for stepd in $(pidof slurmstepd || true); do
    ! ours "$stepd" || kill -KILL "$stepd" 2>/dev/null || true
done
sleep 2
begin_slurmd

submits=1
waited=0
until "$program" sweep status sweep.toml | grep -q '8 done of 8 runs'; do
    waited=$((waited + 1))
    [ $waited -lt 1400 ] || { "$program" sweep status sweep.toml; squeue; exit 1; }
    # What the queue lost is submitted again; what it has is not.
    if [ $((waited % 20)) = 0 ] && ! "$program" sweep submit sweep.toml --engine slurm | grep -q "nothing is missing"; then
        submits=$((submits + 1))
    fi
    sleep 1
done
scancel -u root
sleep 1
"$program" sweep collect sweep.toml >/dev/null
"$program" sweep run alone.toml >/dev/null 2>&1
cmp out/table.json alone/table.json || { echo "the tables differ"; exit 1; }
late=$(find out/runs -path '*/attempts/*.json' | wc -l)
echo "8 of 8 runs done once, table bit for bit that of a sweep without a queue; submitted $submits times, $late late results"
if grep -l '"differs"' $(find out/runs -path '*/attempts/*.json') /dev/null; then exit 1; fi
