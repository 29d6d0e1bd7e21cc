#define PLM_LANES 8
#define PLM_NAME plm_quantize_8
#define PLM_PARTS plm_quantize_8_parts
#include "lanes.inc"
