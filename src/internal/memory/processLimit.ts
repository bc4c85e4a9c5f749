/** How much memory this process may have, as far as its platform says so. */

interface Platform {
  readonly constrainedMemory?: () => number
  readonly getBuiltinModule?: (
    name: string
  ) => { readonly getHeapStatistics?: () => { readonly heap_size_limit: number } }
}

// Node's, where there is one
const { process } = globalThis as { readonly process?: Platform | undefined }

/** Bytes: the lower of the limit for the heap, and that of a container; `Infinity` in a browser. */
export const processLimit = (): number => {
  const heap = process?.getBuiltinModule?.("node:v8").getHeapStatistics?.().heap_size_limit ?? Infinity
  // 0 where there is none
  return Math.min(heap, process?.constrainedMemory?.() || Infinity)
}
