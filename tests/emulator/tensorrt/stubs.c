/* Empty libraries with the names of TensorRT's: enough for its Python bindings to be imported, so that a test can look at
 * their names and signatures on a machine without TensorRT and without a GPU. Everything answers "nothing" (null).
 * Compiled three times, with one of PART_INFER, PART_PLUGIN and PART_PARSER. */
#include <stddef.h>

#define NOTHING(name) \
    void* name(void); \
    void* name(void) { return NULL; }

#ifdef PART_INFER
NOTHING(createInferBuilder_INTERNAL)
NOTHING(createInferRefitter_INTERNAL)
NOTHING(createInferRuntime_INTERNAL)
NOTHING(getPluginRegistry)
NOTHING(getBuilderPluginRegistry)
#endif
#ifdef PART_PARSER
NOTHING(createNvOnnxParser_INTERNAL)
NOTHING(createNvOnnxParserRefitter_INTERNAL)
NOTHING(getNvOnnxParserVersion)
#endif
#ifdef PART_PLUGIN
NOTHING(initLibNvInferPlugins)
#endif
