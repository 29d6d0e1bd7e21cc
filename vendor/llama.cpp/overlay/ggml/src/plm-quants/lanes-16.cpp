#define PLM_LANES 16
#define PLM_NAME plm_quantize_16
#include "lanes.inc"
