// The main of every test program: 77, which CTest shows as skipped, when nothing failed but a test was
// skipped.
#include <gtest/gtest.h>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  return result == 0 && testing::UnitTest::GetInstance()->skipped_test_count() > 0 ? 77 : result;
}
