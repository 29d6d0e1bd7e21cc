#define PLM_LANES 8
#define PLM_NAME plm_quantize_8
#include "lanes.inc"
