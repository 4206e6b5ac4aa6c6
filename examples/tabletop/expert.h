// The scripted expert: a memoryless feedback controller, so it recovers from any state it is put in.
#pragma once

#include "tabletop/tasks.h"

namespace flashrt::tabletop {

Action expert_action(const World& world, const Task& task);

}  // namespace flashrt::tabletop
