/* Attention over the cached rows: lanes are queries, and keys are merged in blocks that start at the same places for all. */
#include "internal.h"

/* Sixteen queries of one key/value head: lane i is query head i % shared of row i / shared. */
struct lanes {
  const float *kv;
  int head, first, n, n_keys; /* of all lanes of this head; keys that any of them sees */
};

static struct lanes lanes_of(const struct pass *pass, const float *kv, int tile) {
  const struct midfill_shape *shape = &pass->model->shape;
  int shared = shape->n_head / shape->n_kv_head, tiles = panels(pass->n_new * shared);
  int head = tile / tiles, first = tile % tiles * PANEL, n = smaller(PANEL, pass->n_new * shared - first);
  return (struct lanes){kv + head * pass->head_stride, head, first, n, pass->n_cached + (first + n - 1) / shared + 1};
}

static void attend_block(const struct pass *pass, struct own *own, struct lanes lanes, int block, float *partial) {
  const struct midfill_shape *shape = &pass->model->shape;
  int shared = shape->n_head / shape->n_kv_head, start = block * KEY_BLOCK;
  float limits[PANEL];
  for (int i = 0; i < PANEL; i++) limits[i] = (float)(pass->n_cached + (lanes.first + smaller(i, lanes.n - 1)) / shared + 1 - start);
  pass->model->kernels->attend(own->queries, lanes.kv + (long)start * 2 * shape->head_dim, smaller(KEY_BLOCK, lanes.n_keys - start), shape->head_dim, limits,
                               own->scores, partial);
}

static void gather_queries(const struct pass *pass, struct own *own, struct lanes lanes) {
  const struct midfill_shape *shape = &pass->model->shape;
  int shared = shape->n_head / shape->n_kv_head, D = shape->head_dim;
  for (int i = 0; i < PANEL; i++) {
    int lane = lanes.first + smaller(i, lanes.n - 1);
    const float *q = pass->model->queries + (long)(lane / shared) * shape->n_embd + (lanes.head * shared + lane % shared) * D;
    for (int d = 0; d < D; d++) own->queries[d * PANEL + i] = q[d] * shape->attention_scale;
  }
}

static void scatter_mixed(const struct pass *pass, struct own *own, struct lanes lanes, const float *joined, float *mixed) {
  const struct midfill_shape *shape = &pass->model->shape;
  int shared = shape->n_head / shape->n_kv_head, D = shape->head_dim;
  pass->model->kernels->finish(joined, D, own->scores);
  for (int i = 0; i < lanes.n; i++) {
    int lane = lanes.first + i;
    memcpy(mixed + (long)(lane / shared) * shape->n_embd + (lanes.head * shared + lane % shared) * D, own->scores + i * D, (size_t)D * sizeof *mixed);
  }
}

/* Few queries: threads share the keys, each block's result waits for its turn to be joined. The arithmetic is that of
 * whole_tiles. Every thread joins all, where that is one row: it is sooner done than waited for. */
static const float *shared_blocks(const struct pass *pass, int rank, struct counter *counters, const float *kv, int tiles) {
  struct midfill_model *model = pass->model;
  struct own *own = &model->own[rank];
  int size = PARTIAL_FLOATS(model->shape.head_dim), blocks = n_blocks(pass->n_cached + pass->n_new), from, to, gathered = -1;
  while (take(counters, tiles * blocks, pool_size(model->pool), rank, &from, &to))
    for (int unit = from; unit < to; unit++) {
      struct lanes lanes = lanes_of(pass, kv, unit / blocks);
      if (unit % blocks >= n_blocks(lanes.n_keys)) continue;
      if (gathered != unit / blocks) gather_queries(pass, own, lanes);
      gathered = unit / blocks;
      attend_block(pass, own, lanes, unit % blocks, model->partials + (long)unit * size);
    }
  pool_barrier(model->pool);
  float *mixed = pass->n_new == 1 ? own->scratch : model->mixed;
  for (int tile = 0; tile < tiles; tile++) {
    if (pass->n_new > 1 && tile % pool_size(model->pool) != rank) continue;
    struct lanes lanes = lanes_of(pass, kv, tile);
    memcpy(own->partial, model->partials + (long)tile * blocks * size, (size_t)size * sizeof(float));
    for (int block = 1; block < n_blocks(lanes.n_keys); block++) model->kernels->merge(own->partial, model->partials + (long)(tile * blocks + block) * size, model->shape.head_dim);
    scatter_mixed(pass, own, lanes, own->partial, mixed);
  }
  if (pass->n_new > 1) pool_barrier(model->pool);
  return mixed;
}

/* Many queries: threads share them. */
static const float *whole_tiles(const struct pass *pass, int rank, struct counter *counters, const float *kv, int tiles) {
  struct midfill_model *model = pass->model;
  struct own *own = &model->own[rank];
  int size = PARTIAL_FLOATS(model->shape.head_dim), from, to;
  while (take(counters, tiles, pool_size(model->pool), rank, &from, &to))
    for (int tile = to - 1; tile >= from; tile--) {
      struct lanes lanes = lanes_of(pass, kv, tile);
      gather_queries(pass, own, lanes);
      attend_block(pass, own, lanes, 0, own->partial);
      for (int block = 1; block < n_blocks(lanes.n_keys); block++) {
        attend_block(pass, own, lanes, block, own->partial + size);
        model->kernels->merge(own->partial, own->partial + size, model->shape.head_dim);
      }
      scatter_mixed(pass, own, lanes, own->partial, model->mixed);
    }
  pool_barrier(model->pool);
  return model->mixed;
}

const float *mix(const struct pass *pass, int rank, struct counter *counters, const float *kv) {
  int tiles = attention_tiles(pass->model, pass->n_new);
  return (shares_blocks(pass->model, pass->n_new) ? shared_blocks : whole_tiles)(pass, rank, counters, kv, tiles);
}
