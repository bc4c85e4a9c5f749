/** How much memory the connections of this process may hold where no policy says so. */

interface Statistics {
  readonly heap_size_limit: number
  readonly used_heap_size: number
}

interface Platform {
  readonly constrainedMemory?: () => number
  readonly getBuiltinModule?: (name: string) => { readonly getHeapStatistics?: () => Statistics }
}

// Node's, where there is one
const { process } = globalThis as { readonly process?: Platform | undefined }

// V8 counts the space of young objects to its limit: 192 MiB in Node 24, 48 before
const young = 192 * 2 ** 20

/**
 * A third of what is left for objects that are not young, but no less than a sixteenth of the heap. What receivers have taken, and
 * what is garbage and not collected yet, need the rest: with half of it a heap of 64 MB was used up now and then.
 */
export const shareOfHeap = (limit: number, used: number): number => Math.max((limit - young - used) / 3, limit / 16)

/** Bytes: a third of what is left of the heap, or of the container where that is less; `Infinity` in a browser. */
export const processShare = (): number => {
  const heap = process?.getBuiltinModule?.("node:v8").getHeapStatistics?.()
  const ofHeap = heap === undefined ? Infinity : shareOfHeap(heap.heap_size_limit, heap.used_heap_size)
  // 0 where there is none
  const container = process?.constrainedMemory?.() || Infinity
  return Math.floor(Math.min(ofHeap, container / 3))
}
