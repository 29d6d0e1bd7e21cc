#define PLM_LANES 4
#define PLM_NAME plm_quantize_4
#include "lanes.inc"
