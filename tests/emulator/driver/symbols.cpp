// Names: of errors, of every function that PyCUDA is linked with, and the search for functions by name and version.
#include "state.hpp"

#include <dlfcn.h>

#include <cstring>

namespace {

struct Error {
    int status;
    const char* name;
    const char* text;
};
const Error ERRORS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "the capture was not initiated in this stream"},
    {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const Error* error_of(int status) {
    for (const Error& error : ERRORS) {
        if (error.status == status) return &error;
    }
    return nullptr;
}

}  // namespace

EXPORT int cuGetErrorString(int status, const char** text) {
    const Error* error = error_of(status);
    *text = error ? error->text : nullptr;
    return error ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuGetErrorName(int status, const char** name) {
    const Error* error = error_of(status);
    *name = error ? error->name : nullptr;
    return error ? SUCCESS : INVALID_VALUE;
}

// PyCUDA is linked with these, and this project uses none of them.
#define ABSENT(NAME) \
    EXPORT int NAME() { return NOT_SUPPORTED; }
#define ABSENT4(A, B, C, D) ABSENT(A) ABSENT(B) ABSENT(C) ABSENT(D)
ABSENT4(cuArray3DCreate_v2, cuArray3DGetDescriptor_v2, cuArrayCreate_v2, cuArrayDestroy)
ABSENT4(cuArrayGetDescriptor_v2, cuCtxAttach, cuCtxCreate_v4, cuCtxDetach)
ABSENT4(cuCtxDisablePeerAccess, cuCtxEnablePeerAccess, cuCtxGetApiVersion, cuCtxGetCacheConfig)
ABSENT4(cuCtxGetLimit, cuCtxGetSharedMemConfig, cuCtxSetCacheConfig, cuCtxSetLimit)
ABSENT4(cuCtxSetSharedMemConfig, cuDeviceCanAccessPeer, cuDeviceGetByPCIBusId, cuFuncSetCacheConfig)
ABSENT4(cuFuncSetSharedSize, cuIpcCloseMemHandle, cuIpcGetEventHandle, cuIpcGetMemHandle)
ABSENT4(cuIpcOpenEventHandle, cuIpcOpenMemHandle_v2, cuLaunch, cuLaunchGrid)
ABSENT4(cuLaunchGridAsync, cuLinkAddData_v2, cuLinkAddFile_v2, cuLinkComplete)
ABSENT4(cuLinkCreate_v2, cuLinkDestroy, cuMemAllocManaged, cuMemAllocPitch_v2)
ABSENT4(cuMemHostGetDevicePointer_v2, cuMemHostGetFlags, cuMemHostRegister_v2, cuMemHostUnregister)
ABSENT4(cuMemcpy2DAsync_v2, cuMemcpy2DUnaligned_v2, cuMemcpy2D_v2, cuMemcpy3DAsync_v2)
ABSENT4(cuMemcpy3DPeer, cuMemcpy3DPeerAsync, cuMemcpy3D_v2, cuMemcpyAtoA_v2)
ABSENT4(cuMemcpyAtoD_v2, cuMemcpyAtoH_v2, cuMemcpyDtoA_v2, cuMemcpyHtoA_v2)
ABSENT4(cuMemcpyPeer, cuMemcpyPeerAsync, cuMemsetD2D16Async, cuMemsetD2D16_v2)
ABSENT4(cuMemsetD2D32Async, cuMemsetD2D32_v2, cuMemsetD2D8Async, cuMemsetD2D8_v2)
ABSENT4(cuModuleGetGlobal_v2, cuModuleGetSurfRef, cuModuleGetTexRef, cuModuleLoad)
ABSENT4(cuParamSetSize, cuParamSetTexRef, cuParamSetf, cuParamSeti)
ABSENT4(cuParamSetv, cuProfilerInitialize, cuProfilerStart, cuProfilerStop)
ABSENT4(cuStreamAttachMemAsync, cuSurfRefGetArray, cuSurfRefSetArray, cuTexRefCreate)
ABSENT4(cuTexRefDestroy, cuTexRefGetAddressMode, cuTexRefGetAddress_v2, cuTexRefGetArray)
ABSENT4(cuTexRefGetFilterMode, cuTexRefGetFlags, cuTexRefGetFormat, cuTexRefSetAddress2D_v3)
ABSENT4(cuTexRefSetAddressMode, cuTexRefSetAddress_v2, cuTexRefSetArray, cuTexRefSetFilterMode)
ABSENT(cuTexRefSetFlags)
ABSENT(cuTexRefSetFormat)

// cuda-bindings finds everything through this: a name without version, and the CUDA version that it was written for.
EXPORT int cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t, int* result) {
    static void* self = [] {
        Dl_info info;
        return dladdr(reinterpret_cast<void*>(&cuGetErrorName), &info) ? dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD) : nullptr;
    }();
    *function = nullptr;
    if (std::strcmp(symbol, "cuGetProcAddress") == 0 && version < 12000) symbol = "";  // the first one has another signature
    for (const char* suffix : {"_v4", "_v3", "_v2", ""}) {
        if (!*function && *symbol) *function = dlsym(self, (std::string(symbol) + suffix).c_str());
    }
    if (result) *result = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
