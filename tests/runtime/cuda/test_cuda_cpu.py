"""cuda_cpu.h finds what it is there to find: kernels that break the rules of barriers and of memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fastsam_deploy.runtime.cuda import kernels

EMULATOR = Path(__file__).resolve().parents[2] / "emulator"

KERNELS = r"""
#include "cuda_cpu.h"

extern "C" __global__ void turn_round(int* values) {  // right
    __shared__ int shared[64];
    shared[threadIdx.x] = values[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    values[blockIdx.x * 64 + threadIdx.x] = shared[63 - threadIdx.x];
}
extern "C" __global__ void no_barrier(int* values) {
    __shared__ int shared[64];
    shared[threadIdx.x] = values[blockIdx.x * 64 + threadIdx.x];
    values[blockIdx.x * 64 + threadIdx.x] = shared[63 - threadIdx.x];
}
extern "C" __global__ void returns_early(int* values) {
    if (threadIdx.x == 5) return;
    __syncthreads();
    values[threadIdx.x] = 0;
}
extern "C" __global__ void reads_outside(int* values) {
    __shared__ int shared[64];
    shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    values[threadIdx.x] = shared[threadIdx.x + 1];
}
extern "C" __global__ void mixed(char a, long long b, short c, int* out, float d) {
    *out = a == 1 && b == 2 && c == 3 && d == 4.0f && threadIdx.y == 2 && blockIdx.z == 1 && gridDim.z == 2;
}
static const CpuKernel table[] = {
    CPU_KERNEL_WITH_BARRIERS(turn_round), CPU_KERNEL_WITH_BARRIERS(no_barrier),
    CPU_KERNEL_WITH_BARRIERS(returns_early), CPU_KERNEL_WITH_BARRIERS(reads_outside), CPU_KERNEL(mixed),
    cpu::registered<&turn_round, false>("unregistered_barrier"),
};

int main(int, char** arguments) {
    const CpuKernel* kernel = table;
    while (std::strcmp(kernel->name, arguments[1]) != 0) ++kernel;
    cpu::order_of_turns = std::atoi(arguments[2]);
    if (std::strcmp(kernel->name, "mixed") == 0) {
        for (std::uint32_t i = 0; i < kernel->arg_count; ++i) std::printf("%u ", kernel->arg_offsets[i]);
        char a = 1; long long b = 2; short c = 3; int result = 0; int* out = &result; float d = 4;
        void* params[] = {&a, &b, &c, &out, &d};
        const std::uint32_t grid[3] = {1, 1, 2}, block[3] = {4, 3, 1}, none[3] = {1, 0, 1}, large[3] = {1025, 1, 1};
        std::printf("%u", kernel->packed_bytes);
        std::printf(" %d %d %d", kernel->run(params, none, block, 0), kernel->run(params, grid, large, 0),
                    kernel->run(params, grid, block, 8));
        std::printf(" %d", kernel->run(params, grid, block, 0));
        std::printf(" %d\n", result);
        return 0;
    }
    std::vector<int> values(128);
    std::iota(values.begin(), values.end(), 0);
    int* pointer = values.data();
    void* params[] = {&pointer};
    const std::uint32_t grid[3] = {2, 1, 1}, block[3] = {64, 1, 1};
    if (kernel->run(params, grid, block, 0) != 0) return 3;
    bool turned = true;
    for (int i = 0; i < 128; ++i) turned &= values[i] == i / 64 * 64 + 63 - i % 64;
    std::puts(turned ? "turned" : "wrong");
}
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The kernels above as a program, plain and with the address sanitizer."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not on the path; install it to run the kernels on the CPU")
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty.cpp").write_text(KERNELS, encoding="utf-8")
    programs = {}
    for name, flags in (("plain", []), ("sanitized", ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])):
        programs[name] = folder / name
        command = [compiler, "-std=c++20", "-O1", f"-I{EMULATOR}", *flags, str(folder / "faulty.cpp")]
        subprocess.run([*command, "-o", str(programs[name])], check=True)
    return programs


def _run(program: Path, kernel: str, order: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    command = [str(program), kernel, str(order)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("program", ["plain", "sanitized"])
def test_a_kernel_with_its_barriers_is_right_in_any_order(faulty: dict[str, Path], program: str, order: int):
    assert _run(faulty[program], "turn_round", order).stdout == "turned\n"


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_missing_barrier_shows(faulty: dict[str, Path], order: int):
    assert _run(faulty["plain"], "no_barrier", order).stdout == "wrong\n"


def test_a_thread_that_returns_before_a_barrier_ends_the_process(faulty: dict[str, Path]):
    done = _run(faulty["plain"], "returns_early")
    assert done.returncode < 0
    assert "block (0, 0, 0): some threads wait at a barrier, others have returned" in done.stderr


def test_a_barrier_in_a_kernel_registered_without_ends_the_process(faulty: dict[str, Path]):
    done = _run(faulty["plain"], "unregistered_barrier")
    assert done.returncode < 0
    assert "a barrier in a kernel that is registered without any" in done.stderr


def test_the_sanitizer_sees_a_read_outside_of_shared_memory(faulty: dict[str, Path]):
    done = _run(faulty["sanitized"], "reads_outside")
    assert done.returncode != 0
    assert "runtime error: index 64 out of bounds" in done.stderr or "global-buffer-overflow" in done.stderr


def test_arguments_are_packed_as_cuda_packs_them_and_bad_launches_are_refused(faulty: dict[str, Path]):
    offsets, refused, done = "0 8 16 24 32", "1 1 1", "0 1"
    assert _run(faulty["plain"], "mixed").stdout == f"{offsets} 36 {refused} {done}\n"


def test_the_cpu_build_has_every_kernel_with_its_parameters(cpu_home: Any):
    size = {"u8": 1, "u32": 4, "u64": 8, "f32": 4}
    entries = {}
    for name in kernels.NAMES:
        text = kernels.ptx_path(name).read_text(encoding="ascii")
        for entry, parameters in re.findall(r"\.entry (\w+)\(([^)]*)\)", text):
            entries[entry] = [size[kind] for kind in re.findall(r"\.param \.(\w+)", parameters)]
    table = {name: entry.arg_sizes[: entry.arg_count] for name, entry in cpu_home.library.table.items()}
    assert table == entries
