// Small kernels for the tests of the device layer. PTX: make_tiny_ptx.py; host build: tiny_cpu.cpp.
extern "C" __global__ void scale_add(const float* x, float* y, float factor, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += factor * x[i];
}

// Arguments of unlike sizes, so that their places in the packed buffer matter: each is written as it came.
extern "C" __global__ void echo(signed char a, double b, short c, long long d, int e, long long* out) {
    out[0] = a;
    out[1] = (long long)b;
    out[2] = c;
    out[3] = d;
    out[4] = e;
    out[5] = gridDim.x * 10000 + gridDim.y * 100 + gridDim.z;
    out[6] = blockDim.x * 10000 + blockDim.y * 100 + blockDim.z;
}

// Writes wherever it is told to.
extern "C" __global__ void store(int* to, long long index, int value) {
    to[index] = value;
}
