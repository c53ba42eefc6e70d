#!/bin/bash
# Trains LST-1B on 8 machines of 8 GPUs, and goes on by itself after a time limit or a pre-emption. Copy this file,
# change what lies before "Nothing below", and submit it. Words that follow its name are options of lst train:
#
#     sbatch train_slurm.sh train.max_steps=100000
#
#SBATCH --job-name=lst-1b
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@180

# A folder that all machines see. RUN/data was made by lst prepare.
RUN=${RUN:-/shared/run}
OPTIONS=(
    name=lst_1b model=lst_1b
    train.num_nodes=8 train.devices=8 train.strategy=hsdp train.precision=bf16-mixed
    train.rows=4 train.row_patches=2048 train.batch_patches=1048576
    data.num_streams=64 data.num_loader_workers=1
    # Less than the seconds of --signal: what is left is for the end of the step and of the job.
    train.preempt_s=150
)

# Nothing below needs a change.
status=0
srun --kill-on-bad-exit=1 lst train run_dir="$RUN" "${OPTIONS[@]}" "$@" || status=$?
# 128 + SIGUSR1: a checkpoint was saved, and the same command goes on from it.
if [ "$status" -eq 138 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
