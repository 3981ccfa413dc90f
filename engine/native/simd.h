/* Sixteen floats or 32-bit integers at a time, the same to the last bit on every instruction set.
 *
 * Lanes never meet but in `sum` and `largest`, whose order is fixed, and every product that is added is fused by name
 * (build with -ffp-contract=off): that is all it takes for AVX2, AVX-512, NEON and plain C to agree. */
#ifndef MIDFILL_SIMD_H
#define MIDFILL_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include <immintrin.h>
#define VARIANT avx512_vnni
#define TILE_ROWS 12 /* accumulators of the integer product: one register a row */
#define BATCH 12     /* and of the attention's products */

typedef __m512 v16f;
typedef __m512i v16i;

static inline v16f load(const float *p) { return _mm512_loadu_ps(p); }
static inline void store(float *p, v16f a) { _mm512_storeu_ps(p, a); }
static inline v16f set1(float x) { return _mm512_set1_ps(x); }
static inline v16f add(v16f a, v16f b) { return _mm512_add_ps(a, b); }
static inline v16f sub(v16f a, v16f b) { return _mm512_sub_ps(a, b); }
static inline v16f mul(v16f a, v16f b) { return _mm512_mul_ps(a, b); }
static inline v16f divide(v16f a, v16f b) { return _mm512_div_ps(a, b); }
static inline v16f fma16(v16f a, v16f b, v16f c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16f larger(v16f a, v16f b) { return _mm512_max_ps(a, b); }
static inline v16f smaller(v16f a, v16f b) { return _mm512_min_ps(a, b); }
static inline v16f absolute(v16f a) { return _mm512_abs_ps(a); }
static inline v16f if_less(v16f a, v16f b, v16f yes, v16f no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
static inline v16i zero(void) { return _mm512_setzero_si512(); }
static inline v16i add_int(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
static inline v16i round_int(v16f a) { return _mm512_cvtps_epi32(a); }
static inline v16f to_float(v16i a) { return _mm512_cvtepi32_ps(a); }
static inline v16f power_of_two(v16i n) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23)); }
static inline void store_levels(int16_t *p, v16i a) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtsepi32_epi16(a)); }
/* Sixteen outputs' weights of two inputs, made ready for any number of rows. */
typedef __m512i weights16;
static inline weights16 load_weights(const int8_t *w) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w)); }
static inline v16i add_pairs(v16i sum, weights16 w, int32_t pair) { return _mm512_dpwssd_epi32(sum, w, _mm512_set1_epi32(pair)); }

#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VARIANT avx2
#define TILE_ROWS 6 /* two registers a row: 12 of 16 */
#define BATCH 6

typedef struct { __m256 a, b; } v16f;
typedef struct { __m256i a, b; } v16i;

static inline v16f load(const float *p) { return (v16f){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void store(float *p, v16f x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
static inline v16f set1(float x) { __m256 v = _mm256_set1_ps(x); return (v16f){v, v}; }
static inline v16f add(v16f x, v16f y) { return (v16f){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
static inline v16f sub(v16f x, v16f y) { return (v16f){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
static inline v16f mul(v16f x, v16f y) { return (v16f){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
static inline v16f divide(v16f x, v16f y) { return (v16f){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
static inline v16f fma16(v16f x, v16f y, v16f z) { return (v16f){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
static inline v16f larger(v16f x, v16f y) { return (v16f){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
static inline v16f smaller(v16f x, v16f y) { return (v16f){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
static inline v16f absolute(v16f x) { __m256 sign = _mm256_set1_ps(-0.0f); return (v16f){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)}; }
static inline v16f if_less(v16f x, v16f y, v16f yes, v16f no) {
  return (v16f){_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)), _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
static inline v16i zero(void) { return (v16i){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
static inline v16i add_int(v16i x, v16i y) { return (v16i){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
static inline v16i round_int(v16f x) { return (v16i){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
static inline v16f to_float(v16i x) { return (v16f){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
static inline v16f power_of_two(v16i n) {
  __m256i bias = _mm256_set1_epi32(127);
  return (v16f){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.a, bias), 23)), _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.b, bias), 23))};
}
static inline void store_levels(int16_t *p, v16i x) { _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8)); }
typedef v16i weights16;
static inline weights16 load_weights(const int8_t *w) {
  return (v16i){_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w)), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16)))};
}
static inline v16i add_pairs(v16i sum, weights16 w, int32_t pair) {
  __m256i x = _mm256_set1_epi32(pair);
  return (v16i){_mm256_add_epi32(sum.a, _mm256_madd_epi16(w.a, x)), _mm256_add_epi32(sum.b, _mm256_madd_epi16(w.b, x))};
}

#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(MIDFILL_PLAIN)
#include <arm_neon.h>
#define VARIANT neon
#define TILE_ROWS 5 /* four registers a row: 20 of 32 */
#define BATCH 5

typedef struct { float32x4_t r[4]; } v16f;
typedef struct { int32x4_t r[4]; } v16i;
#define EACH(type, expression) { type z; for (int i = 0; i < 4; i++) z.r[i] = expression; return z; }

static inline v16f load(const float *p) EACH(v16f, vld1q_f32(p + 4 * i))
static inline void store(float *p, v16f x) { for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.r[i]); }
static inline v16f set1(float x) EACH(v16f, vdupq_n_f32(x))
static inline v16f add(v16f x, v16f y) EACH(v16f, vaddq_f32(x.r[i], y.r[i]))
static inline v16f sub(v16f x, v16f y) EACH(v16f, vsubq_f32(x.r[i], y.r[i]))
static inline v16f mul(v16f x, v16f y) EACH(v16f, vmulq_f32(x.r[i], y.r[i]))
static inline v16f divide(v16f x, v16f y) EACH(v16f, vdivq_f32(x.r[i], y.r[i]))
static inline v16f fma16(v16f x, v16f y, v16f a) EACH(v16f, vfmaq_f32(a.r[i], x.r[i], y.r[i]))
static inline v16f larger(v16f x, v16f y) EACH(v16f, vbslq_f32(vcgtq_f32(x.r[i], y.r[i]), x.r[i], y.r[i]))
static inline v16f smaller(v16f x, v16f y) EACH(v16f, vbslq_f32(vcltq_f32(x.r[i], y.r[i]), x.r[i], y.r[i]))
static inline v16f absolute(v16f x) EACH(v16f, vabsq_f32(x.r[i]))
static inline v16f if_less(v16f x, v16f y, v16f yes, v16f no) EACH(v16f, vbslq_f32(vcltq_f32(x.r[i], y.r[i]), yes.r[i], no.r[i]))
static inline v16i zero(void) EACH(v16i, vdupq_n_s32(0))
static inline v16i add_int(v16i x, v16i y) EACH(v16i, vaddq_s32(x.r[i], y.r[i]))
static inline v16i round_int(v16f x) EACH(v16i, vcvtnq_s32_f32(x.r[i]))
static inline v16f to_float(v16i x) EACH(v16f, vcvtq_f32_s32(x.r[i]))
static inline v16f power_of_two(v16i n) EACH(v16f, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n.r[i], vdupq_n_s32(127)), 23)))
static inline void store_levels(int16_t *p, v16i x) { for (int i = 0; i < 4; i++) vst1_s16(p + 4 * i, vqmovn_s32(x.r[i])); }
typedef struct { int16x4_t even[4], odd[4]; } weights16;
static inline weights16 load_weights(const int8_t *w) {
  int8x16x2_t apart = vld2q_s8(w);
  int16x8_t e0 = vmovl_s8(vget_low_s8(apart.val[0])), e1 = vmovl_s8(vget_high_s8(apart.val[0]));
  int16x8_t o0 = vmovl_s8(vget_low_s8(apart.val[1])), o1 = vmovl_s8(vget_high_s8(apart.val[1]));
  return (weights16){{vget_low_s16(e0), vget_high_s16(e0), vget_low_s16(e1), vget_high_s16(e1)},
                     {vget_low_s16(o0), vget_high_s16(o0), vget_low_s16(o1), vget_high_s16(o1)}};
}
static inline v16i add_pairs(v16i sum, weights16 w, int32_t pair) {
  int16_t x[2];
  memcpy(x, &pair, sizeof x);
  for (int i = 0; i < 4; i++) sum.r[i] = vmlal_n_s16(vmlal_n_s16(sum.r[i], w.even[i], x[0]), w.odd[i], x[1]);
  return sum;
}

#else /* plain C: what the others are compared with */
#define VARIANT plain
#define TILE_ROWS 4
#define BATCH 4

typedef struct { float r[16]; } v16f;
typedef struct { int32_t r[16]; } v16i;
#define EACH(type, expression) { type z; for (int i = 0; i < 16; i++) z.r[i] = expression; return z; }

static inline v16f load(const float *p) EACH(v16f, p[i])
static inline void store(float *p, v16f x) { memcpy(p, x.r, sizeof x.r); }
static inline v16f set1(float x) EACH(v16f, x)
static inline v16f add(v16f x, v16f y) EACH(v16f, x.r[i] + y.r[i])
static inline v16f sub(v16f x, v16f y) EACH(v16f, x.r[i] - y.r[i])
static inline v16f mul(v16f x, v16f y) EACH(v16f, x.r[i] * y.r[i])
static inline v16f divide(v16f x, v16f y) EACH(v16f, x.r[i] / y.r[i])
static inline v16f fma16(v16f x, v16f y, v16f a) EACH(v16f, fmaf(x.r[i], y.r[i], a.r[i]))
static inline v16f larger(v16f x, v16f y) EACH(v16f, x.r[i] > y.r[i] ? x.r[i] : y.r[i])
static inline v16f smaller(v16f x, v16f y) EACH(v16f, x.r[i] < y.r[i] ? x.r[i] : y.r[i])
static inline v16f absolute(v16f x) EACH(v16f, fabsf(x.r[i]))
static inline v16f if_less(v16f x, v16f y, v16f yes, v16f no) EACH(v16f, x.r[i] < y.r[i] ? yes.r[i] : no.r[i])
static inline v16i zero(void) EACH(v16i, 0)
static inline v16i add_int(v16i x, v16i y) EACH(v16i, x.r[i] + y.r[i])
static inline v16i round_int(v16f x) EACH(v16i, x.r[i] >= -2147483648.0f && x.r[i] < 2147483648.0f ? (int32_t)rintf(x.r[i]) : INT32_MIN)
static inline v16f to_float(v16i x) EACH(v16f, (float)x.r[i])
static inline v16f power_of_two(v16i n) {
  v16f z;
  for (int i = 0; i < 16; i++) {
    uint32_t bits = (uint32_t)(n.r[i] + 127) << 23;
    memcpy(&z.r[i], &bits, sizeof bits);
  }
  return z;
}
static inline void store_levels(int16_t *p, v16i x) {
  for (int i = 0; i < 16; i++) p[i] = (int16_t)(x.r[i] > 32767 ? 32767 : x.r[i] < -32768 ? -32768 : x.r[i]);
}
typedef struct { int16_t r[32]; } weights16;
static inline weights16 load_weights(const int8_t *w) { weights16 z; for (int i = 0; i < 32; i++) z.r[i] = w[i]; return z; }
static inline v16i add_pairs(v16i sum, weights16 w, int32_t pair) {
  int16_t x[2];
  memcpy(x, &pair, sizeof x);
  for (int i = 0; i < 16; i++) sum.r[i] += w.r[2 * i] * x[0] + w.r[2 * i + 1] * x[1];
  return sum;
}
#endif

/* A fixed tree, whatever the registers are. */
static inline float sum(v16f x) {
  float r[LANES];
  store(r, x);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) r[i] += r[i + half];
  return r[0];
}

static inline float largest(v16f x) {
  float r[LANES], most;
  store(r, x);
  most = r[0];
  for (int i = 1; i < LANES; i++) most = r[i] > most ? r[i] : most;
  return most;
}

/* e to the x; 0 below -87, where it stops being a normal number. Source of the coefficients: Cephes, expf. */
static inline v16f exponential(v16f x) {
  v16f clamped = larger(smaller(x, set1(88.0f)), set1(-87.0f));
  v16i n = round_int(mul(clamped, set1(1.44269504088896341f)));
  v16f whole = to_float(n);
  v16f r = fma16(whole, set1(-0.693359375f), clamped);
  r = fma16(whole, set1(2.12194440e-4f), r);
  v16f p = set1(1.9875691500e-4f);
  p = fma16(p, r, set1(1.3981999507e-3f));
  p = fma16(p, r, set1(8.3334519073e-3f));
  p = fma16(p, r, set1(4.1665795894e-2f));
  p = fma16(p, r, set1(1.6666665459e-1f));
  p = fma16(p, r, set1(5.0000001201e-1f));
  p = fma16(p, mul(r, r), add(r, set1(1.0f)));
  return if_less(x, set1(-87.0f), set1(0.0f), mul(p, power_of_two(n)));
}

#endif
