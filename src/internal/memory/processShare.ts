/** How much memory the connections of this process may hold where no policy says so. */

interface Platform {
  readonly constrainedMemory?: () => number
  readonly getBuiltinModule?: (
    name: string
  ) => { readonly getHeapStatistics?: () => { readonly heap_size_limit: number } }
}

// Node's, where there is one
const { process } = globalThis as { readonly process?: Platform | undefined }

// V8 counts the space of young objects to its limit: 192 MiB in Node 24, 48 before
const young = 192 * 2 ** 20

/** Half of so many bytes of heap, less what young objects have; an eighth of a heap that is hardly larger than those. */
export const shareOfHeap = (limit: number): number => Math.max((limit - young) / 2, limit / 8)

/** Bytes: half of the heap, or of the container where that is less; `Infinity` in a browser. */
export const processShare = (): number => {
  const heap = process?.getBuiltinModule?.("node:v8").getHeapStatistics?.().heap_size_limit ?? Infinity
  // 0 where there is none
  const container = process?.constrainedMemory?.() || Infinity
  return Math.floor(Math.min(shareOfHeap(heap), container / 2))
}
