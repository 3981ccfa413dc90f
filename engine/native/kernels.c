/* Compiled once for each instruction set; simd.h says which. */
#include "kernels.h"
#include "simd.h"

static inline v16f load_some(const float *p, int n) {
  float r[LANES] = {0};
  if (n >= LANES) return load(p);
  memcpy(r, p, (size_t)n * sizeof *r);
  return load(r);
}

/* LayerNorm into scratch, zeros behind the row's end. */
static void normalize(const float *row, const float *gamma, const float *beta, float eps, int n, float *scratch) {
  v16f total = set1(0.0f), squares = set1(0.0f);
  for (int i = 0; i < n; i += LANES) total = add(total, load_some(row + i, n - i));
  float mean = sum(total) / (float)n;
  for (int i = 0; i < n; i += LANES) {
    store(scratch + i, sub(load_some(row + i, n - i), set1(mean)));
    for (int j = n - i; j < LANES; j++) scratch[i + j] = 0.0f;
    squares = fma16(load(scratch + i), load(scratch + i), squares);
  }
  v16f factor = set1(1.0f / sqrtf(sum(squares) / (float)n + eps));
  for (int i = 0; i < n; i += LANES)
    store(scratch + i, fma16(mul(load(scratch + i), factor), load_some(gamma + i, n - i), load_some(beta + i, n - i)));
}

#define NOTHING 1e-30f /* a row of less is one of zeros: its factor would overflow */

/* Sixteen columns of all rows before the next: they lie side by side in what is written. */
static void quantize(const float *x, long ld, int n_rows, const float *gamma, const float *beta, float eps, int n, int max_level, float *scratch, int16_t *levels, int stride, float *scales) {
  const long room = (n + LANES - 1) / LANES * LANES, step = gamma ? room : ld;
  const float *values = gamma ? scratch : x;
  float factors[TILE_ROWS];
  for (int r = 0; r < n_rows; r++) {
    v16f most = set1(0.0f);
    if (gamma) normalize(x + r * ld, gamma, beta, eps, n, scratch + r * room);
    for (int i = 0; i < n; i += LANES) most = larger(most, absolute(load_some(values + r * step + i, n - i)));
    float largest_value = largest(most);
    factors[r] = largest_value > NOTHING ? (float)max_level / largest_value : 0.0f;
    scales[r] = largest_value / (float)max_level;
  }
  for (int i = 0; i < n; i += LANES)
    for (int r = 0; r < n_rows; r++) {
      int32_t pairs[LANES / 2];
      int n_pairs = (n - i + 1) / 2 < LANES / 2 ? (n - i + 1) / 2 : LANES / 2;
      store_levels((int16_t *)pairs, round_int(mul(load_some(values + r * step + i, n - i), set1(factors[r]))));
      for (int j = 0; j < n_pairs; j++) memcpy(levels + 2 * (i / 2 + j) * stride + 2 * r, pairs + j, sizeof *pairs);
    }
}

static inline v16f gelu_tanh(v16f x) {
  v16f cubic = fma16(mul(mul(x, x), x), set1(0.044715f), x);
  return divide(x, add(set1(1.0f), exponential(mul(cubic, set1(-1.5957691216057308f)))));
}

/* Source of the coefficients: Abramowitz and Stegun, 7.1.26; its error is below 1.5e-7. */
static inline v16f gelu_erf(v16f x) {
  v16f z = mul(absolute(x), set1(0.70710678118654752f));
  v16f t = divide(set1(1.0f), fma16(z, set1(0.3275911f), set1(1.0f)));
  v16f p = fma16(t, set1(1.061405429f), set1(-1.453152027f));
  p = fma16(p, t, set1(1.421413741f));
  p = fma16(p, t, set1(-0.284496736f));
  p = fma16(p, t, set1(0.254829592f));
  v16f tail = mul(mul(mul(p, t), exponential(sub(set1(0.0f), mul(z, z)))), mul(x, set1(0.5f)));
  return if_less(x, set1(0.0f), tail, sub(x, tail));
}

static inline v16f activate(v16f x, enum activation act) {
  switch (act) {
    case ACT_GELU_TANH: return gelu_tanh(x);
    case ACT_GELU_ERF: return gelu_erf(x);
    case ACT_RELU: return larger(x, set1(0.0f));
    default: return x;
  }
}

static inline void store_some(float *out, v16f x, int n) {
  float r[LANES];
  if (n >= LANES) {
    store(out, x);
    return;
  }
  store(r, x);
  memcpy(out, r, (size_t)n * sizeof *r);
}

static inline int32_t pair_at(const int16_t *levels) {
  int32_t pair;
  memcpy(&pair, levels, sizeof pair);
  return pair;
}

#ifndef PREFETCH_BYTES
#define PREFETCH_BYTES 4096 /* ahead of the reads: the hardware's own prefetcher stops at every page */
#endif

/* One row: the memory's speed, if the sums do not wait for each other. */
static inline v16i product_of_row(const int8_t *w, const int16_t *levels, int n_pairs) {
  v16i sums[4] = {zero(), zero(), zero(), zero()};
  int i = 0;
  for (; i + 4 <= n_pairs; i += 4, w += 128, levels += 8) {
    __builtin_prefetch(w + PREFETCH_BYTES);
    __builtin_prefetch(w + PREFETCH_BYTES + 64);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) sums[j] = add_pairs(sums[j], load_weights(w + 32 * j), pair_at(levels + 2 * j));
  }
  for (; i < n_pairs; i++, w += 32, levels += 2) sums[0] = add_pairs(sums[0], load_weights(w), pair_at(levels));
  return add_int(add_int(sums[0], sums[1]), add_int(sums[2], sums[3]));
}

/* n_rows is known where this is inlined, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void products(const int8_t *w, const int16_t *levels, int n_pairs, v16i *result, const int n_rows) {
  v16i sums[TILE_ROWS];
#pragma GCC unroll 12
  for (int r = 0; r < n_rows; r++) sums[r] = zero();
  for (int i = 0; i < n_pairs; i++, w += 32, levels += 2 * n_rows) {
    __builtin_prefetch(w + PREFETCH_BYTES);
    weights16 weights = load_weights(w);
#pragma GCC unroll 12
    for (int r = 0; r < n_rows; r++) sums[r] = add_pairs(sums[r], weights, pair_at(levels + 2 * r));
  }
#pragma GCC unroll 12
  for (int r = 0; r < n_rows; r++) result[r] = sums[r];
}

static void panel(const struct linear *linear, int panel_idx, const int16_t *levels, const float *scales, int n_rows, float *out, long ld, int n_valid, enum activation act) {
  int n_pairs = (linear->n_in + 1) / 2;
  const int8_t *w = linear->weights + (long)panel_idx * n_pairs * 2 * PANEL;
  v16i sums[TILE_ROWS];
  switch (n_rows) {
    case 1: sums[0] = product_of_row(w, levels, n_pairs); break;
#define CASE(n) case n: products(w, levels, n_pairs, sums, n); break;
    CASE(2) CASE(3) CASE(4)
#if TILE_ROWS > 4
    CASE(5)
#endif
#if TILE_ROWS > 5
    CASE(6)
#endif
#if TILE_ROWS > 6
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
  }
  v16f weight_scales = load(linear->scales + panel_idx * PANEL), bias = load(linear->bias + panel_idx * PANEL);
  for (int r = 0; r < n_rows; r++) {
    v16f value = fma16(to_float(sums[r]), mul(weight_scales, set1(scales[r])), bias);
    float *row = out + r * ld;
    store_some(row, act == ACT_ADD ? add(value, load_some(row, n_valid)) : activate(value, act), n_valid);
  }
}

/* (lanes) += over k of a[k] (lanes) * b[k * step_k + n * step_n], for n_out values of n: one chain a value, in k's order. */
static inline __attribute__((always_inline)) void lane_products(const float *a, const float *b, long step_k, long step_n, int n_k, const int n_out, float *out, const float *ahead) {
  v16f sums[BATCH];
#pragma GCC unroll 12
  for (int n = 0; n < n_out; n++) sums[n] = set1(0.0f);
  for (int k = 0; k < n_k; k++) {
    v16f lanes = load(a + k * LANES);
    const float *row = b + k * step_k;
    __builtin_prefetch(ahead + k * LANES, 0, 2); /* two blocks are more than the first cache holds */
#pragma GCC unroll 12
    for (int n = 0; n < n_out; n++) sums[n] = fma16(lanes, set1(row[n * step_n]), sums[n]);
  }
#pragma GCC unroll 12
  for (int n = 0; n < n_out; n++) store(out + n * LANES, sums[n]);
}

/* A block's keys and values are fetched while the one before is worked on, a line at every step: halves of rows are no stream
 * that hardware foresees, and as many fetches at once as a block has lines would stall. Where the next is to go on. */
static inline __attribute__((always_inline)) const float *all_lane_products(const float *a, const float *b, long step_k, long step_n, int n_k, int n_out, float *out, const float *ahead, const float *end) {
  int n = 0;
  for (; n + BATCH <= n_out; n += BATCH, ahead += ahead < end ? n_k * LANES : 0) lane_products(a, b + n * step_n, step_k, step_n, n_k, BATCH, out + n * LANES, ahead);
  for (; n + 4 <= n_out; n += 4, ahead += ahead < end ? n_k * LANES : 0) lane_products(a, b + n * step_n, step_k, step_n, n_k, 4, out + n * LANES, ahead);
  for (; n < n_out; n++) lane_products(a, b + n * step_n, step_k, step_n, n_k, 1, out + n * LANES, ahead);
  return ahead;
}

static void attend(const float *queries, const float *kv, int n_keys, int head_dim, const float *limits, float *scores, float *partial) {
  const long row = 2 * head_dim;
  const v16f nothing = set1(-INFINITY), limit = load(limits);
  v16f most = nothing, total = set1(0.0f);
  const float *ahead = kv + KEY_BLOCK * row, *end = ahead + KEY_BLOCK * row;
  ahead = all_lane_products(queries, kv, 1, row, head_dim, n_keys, scores, ahead, end);
  for (int j = 0; j < n_keys; j++) {
    v16f score = if_less(set1((float)j), limit, load(scores + j * LANES), nothing);
    store(scores + j * LANES, score);
    most = larger(most, score);
  }
  v16f shift = if_less(nothing, most, most, set1(0.0f)); /* a lane that sees none of the keys */
  for (int j = 0; j < n_keys; j++) {
    v16f weight = exponential(sub(load(scores + j * LANES), shift));
    store(scores + j * LANES, weight);
    total = add(total, weight);
  }
  store(partial, most);
  store(partial + LANES, total);
  all_lane_products(scores, kv + head_dim, row, 1, n_keys, head_dim, partial + 2 * LANES, ahead, end);
}

static void merge(float *into, const float *partial, int head_dim) {
  v16f before = load(into), now = load(partial), most = larger(before, now);
  v16f keep = exponential(sub(before, most)), take = exponential(sub(now, most)); /* the first block is never empty */
  store(into, most);
  for (int i = 1; i < head_dim + 2; i++) store(into + i * LANES, fma16(load(into + i * LANES), keep, mul(load(partial + i * LANES), take)));
}

static void finish(const float *joined, int head_dim, float *out) {
  float lanes[LANES];
  v16f total = load(joined + LANES);
  for (int d = 0; d < head_dim; d++) {
    store(lanes, divide(load(joined + (d + 2) * LANES), total));
    for (int i = 0; i < LANES; i++) out[i * head_dim + d] = lanes[i];
  }
}

#define NAME_(variant) #variant
#define NAME(variant) NAME_(variant)
#define TABLE_(variant) kernels_##variant
#define TABLE(variant) TABLE_(variant)

const struct kernels TABLE(VARIANT) = {
    .name = NAME(VARIANT), .tile_rows = TILE_ROWS, .quantize = quantize, .panel = panel, .attend = attend, .merge = merge, .finish = finish,
};
